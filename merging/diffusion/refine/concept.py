"""A LoRA as one concept: what it adds to the base, and the phrase that calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from merging.adapter import Adapter, VectorDelta
from merging.calibration.prompts import is_style, joint_prompt
from merging.diffusion.base import Base
from merging.diffusion.compose.scene import summed_shifts
from merging.errors import MergeError
from merging.linalg.delta import Delta, ScaledDeltas
from merging.text.phrases import phrases_in, repeated
from merging.text.syntax import plain_text


@dataclass(frozen=True)
class ModelChange:
    """What is added to the base; nothing, unless given."""

    deltas: Mapping[str, Delta] = field(default_factory=dict)  # layer → change of its weight
    shifts: Mapping[str, VectorDelta] = field(default_factory=dict)  # module → of its vectors

    @contextmanager
    def applied(self, base: Base) -> Iterator[None]:
        """The base with this change; untouched afterwards."""
        with base.changed(self.deltas), base.changed(self.shifts):
            yield

    def on(self, base: Base) -> ModelChange:
        """The same in the base's precision on its device, for many uses."""
        place = base.device, base.dtype
        return ModelChange(
            {layer: delta.to(*place) for layer, delta in self.deltas.items()},
            {module: shift.to(*place) for module, shift in self.shifts.items()},
        )


NO_CHANGE = ModelChange()


@dataclass(frozen=True)
class Concept:
    """One LoRA at its strength, by its trigger phrase."""

    phrase: str  # plain
    change: ModelChange
    name: str  # of the LoRA

    @property
    def style(self) -> bool:
        """Whether it is a style of whole pictures."""
        return is_style(self.phrase)

    def prompt(self, prompt: str, phrases: Sequence[str]) -> str:
        """The picture's prompt if, of all these phrases, it names this one; else one that does."""
        present = self.phrase in phrases_in(prompt, phrases)
        return prompt if present else joint_prompt([self.phrase])


def concept_of(base: Base, adapter: Adapter, strength: float = 1.0, phrase: str = "") -> Concept:
    """An adapter at a strength; float64 factors are made when they are used, layer by layer.

    MergeError where it does not fit the base.
    """
    for layer in adapter.layers:
        if layer not in base.layers:
            raise MergeError(
                f"{adapter.name}: layer {layer} does not exist in the base {base.name}; "
                "choose the base that it was trained for."
            )
    shifts = summed_shifts(base, [(adapter, strength)])
    change = ModelChange(ScaledDeltas(adapter.layers, strength), shifts)
    return Concept(plain_text(phrase or adapter.trigger), change, adapter.name)


def check_phrases(concepts: Sequence[Concept]) -> None:
    """MergeError for a concept without a trigger phrase, and for two with the same one."""
    for concept in concepts:
        if not concept.phrase.strip():
            raise MergeError(
                f"{concept.name}: no trigger phrase in the file, so its concept cannot be looked "
                "for; type the phrase that it was trained with."
            )
    if twice := repeated([concept.phrase for concept in concepts]):
        raise MergeError(
            f"Two LoRAs have the trigger phrase “{twice[0]}” (capitals are read as small letters); "
            "type a different one for each."
        )
