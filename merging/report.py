"""The report of a merge: figures for every layer, times, and notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypedDict, cast

if TYPE_CHECKING:
    from merging.runtime.phases import Phase  # which imports torch


@dataclass(frozen=True)
class LayerReport:
    """One merged layer; merging/linalg/diagnostics.py defines the numbers."""

    layer: str
    sources: tuple[str, ...]  # the LoRAs that have it
    rank: int
    kept_energy: float  # share of the change's energy that the rank keeps
    method: str  # title of the method that merged it: that of the request, or the fallback
    # The rest only for layers that were solved from activations.
    objective: dict[str, float] = field(default_factory=dict)  # relative to no change = 1
    drift: dict[str, float] = field(default_factory=dict)  # ‖X̃ − X‖ / ‖X‖ by row set
    condition: float | None = None  # of the damped Gram matrix
    fallback_share: float | None = None  # share of the solution that comes from the ridge


# Called with the report of every solved layer, and the number of layers: with a calibrated method,
# of those that are solved from prompts.
Watch = Callable[[LayerReport, int], None]


def no_watch(_row: LayerReport, _count: int) -> None:
    """A watch that does nothing."""


class LayerData(TypedDict):
    """A `LayerReport` as plain data."""

    layer: str
    sources: list[str]
    rank: int
    kept_energy: float
    method: str
    objective: dict[str, float]
    drift: dict[str, float]
    condition: float | None
    fallback_share: float | None


class PhaseData(TypedDict):
    """A part of the merge as plain data."""

    seconds: float
    peak_bytes: int | None


class ReportData(TypedDict):
    """A `Report` as plain data: `merge --json`, the API, report.json and the history have it."""

    method: str
    layers: list[LayerData]
    seconds: float
    phases: dict[str, PhaseData]
    notes: list[str]


@dataclass
class Report:
    """The whole merge."""

    method: str
    layers: list[LayerReport] = field(default_factory=list)
    seconds: float = 0.0
    phases: dict[str, Phase] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # sentences, such as which layers fell back

    def as_dict(self) -> ReportData:
        """Plain data for JSON: what reading the JSON gives back is equal to it."""
        layers = [asdict(layer) | {"sources": list(layer.sources)} for layer in self.layers]
        return cast(ReportData, asdict(self) | {"layers": layers})
