"""How long the stages of jobs took on this machine, to tell how long the next ones will take."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from app.schemas.draw import ComparisonOrder, DrawOrder

Key = tuple[str, str, str]  # base model, its precision, size of the pictures


@dataclass
class Stage:
    """A part of a job."""

    kind: str  # stages of one kind take time in proportion to their costs
    cost: float  # beside that of the other stages
    seconds: float = 0.0  # that it has taken
    share: float = 0.0  # of it that is done


@dataclass(frozen=True)
class Measured:
    """The stages of a job that has ended, and what beside their costs decides on their times."""

    key: Key
    stages: Sequence[Stage]


def pace_key(order: ComparisonOrder | DrawOrder) -> Key:
    """What, beside the costs, decides how long an order takes."""
    scene = order.scene if isinstance(order, ComparisonOrder) else order
    return scene.base, scene.precision, scene.size.strip()


def estimate(stage: Stage, measured: Sequence[Stage]) -> float:
    """Seconds of a stage by the speed of measured ones, those of its kind if there are any."""
    alike = [other for other in measured if other.kind == stage.kind] or measured
    return stage.cost * sum(one.seconds for one in alike) / sum(one.cost for one in alike)


class Pace:
    """The newest measured stages of every kind, by what decides on their times."""

    def __init__(self) -> None:
        self._stages: dict[Key, list[Stage]] = {}
        self._lock = threading.Lock()

    def note(self, measured: Measured) -> None:
        """Keep the stages of a job, in place of earlier ones of their kinds."""
        kinds = {stage.kind for stage in measured.stages}
        with self._lock:
            earlier = self._stages.get(measured.key, [])
            others = [stage for stage in earlier if stage.kind not in kinds]
            self._stages[measured.key] = [*others, *measured.stages]

    def seconds(self, key: Key, stages: Sequence[Stage]) -> float | None:
        """How long these stages will take, about; None where nothing was measured yet."""
        with self._lock:
            measured = list(self._stages.get(key, []))
        return sum(estimate(stage, measured) for stage in stages) if measured else None
