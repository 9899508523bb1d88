"""How an option of a merge is declared: one field with all that any surface says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from merging.errors import MergeError

Kind = Literal["method", "choice", "whole", "number", "rank"]
# Which methods an option makes a difference to: all of them, those that run prompts, or those that
# also see the inputs of the merged model.
Concerns = Literal["every method", "prompts", "merged inputs"]
RANKS = ("exact", "auto", "full")
Stage = Literal["method", "calibration", "solver", "result"]  # of a merge that an option is for
STAGES = get_args(Stage)


@dataclass(frozen=True)
class Option:
    """What is known of one option; ``name`` and ``default`` are those of its field."""

    title: str  # on the page, and where two merges are compared
    help: str  # one sentence
    kind: Kind
    stage: Stage
    concerns: Concerns = "prompts"
    choices: Mapping[str, str] = field(default_factory=dict)  # value → its name on the page
    lowest: float | None = None
    highest: float | None = None
    above: float | None = None  # a bound that is itself not allowed
    unset: str = ""  # what None means; "" where the option always has a value
    unset_word: str = ""  # what stands for None on the command line, beside leaving it out
    unset_zero: bool = False  # whether 0 means None on the page and in the endpoint
    flag: str = ""
    name: str = ""
    default: Any = None

    @property
    def optional(self) -> bool:
        """Whether it may be None."""
        return bool(self.unset)

    def check(self, value: Any) -> None:
        """MergeError if this cannot be the option's value."""
        if value is None and self.optional:
            return
        if self.kind == "choice" and value not in self.choices:
            raise MergeError(
                f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}."
            )
        if self.kind == "rank" and not (value in RANKS or (_is_whole(value) and value >= 1)):
            raise MergeError(
                f"The rank must be {', '.join(RANKS)} or a number from 1, not {value!r}."
            )
        if self.kind in ("whole", "number"):
            self._check_number(value)

    def _check_number(self, value: Any) -> None:
        fits = _is_whole(value) if self.kind == "whole" else _is_number(value)
        if not (fits and self._within_bounds(value)):
            kind = "a whole number" if self.kind == "whole" else "a number"
            other = f", or {self.unset_word}" if self.unset_word else ""
            raise MergeError(f"{self.name} must be {kind}{self._bounds()}{other}, not {value!r}.")

    def _within_bounds(self, value: float) -> bool:
        return (
            (self.lowest is None or value >= self.lowest)
            and (self.highest is None or value <= self.highest)
            and (self.above is None or value > self.above)
        )

    def _bounds(self) -> str:
        most = f" to {self.highest:.19g}" if self.highest else ""
        if self.above is not None:
            return f" above {self.above:g}{most.replace(' to ', ' and at most ')}"
        return f" from {self.lowest:.19g}{most}" if self.lowest is not None else ""


def option(default: Any, title: str, help: str, kind: Kind, stage: Stage, **about: Any) -> Any:
    """A field of MergeOptions with all that is known of it."""
    return field(default=default, metadata={"option": Option(title, help, kind, stage, **about)})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
