"""From a LoRA and two base models to the carried LoRA, and how much of its effect it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import isfinite

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.calibration.plan import RowSet, Sweep
from merging.calibration.prompts import concept_prompts, plain_prompts
from merging.calibration.target_layers import GRAM_BYTES, gram_bytes
from merging.diffusion.base import Base
from merging.diffusion.calibrate import check_layers
from merging.diffusion.calibration_samples import Sample, batches, draw_samples
from merging.diffusion.carry.distil import distil
from merging.diffusion.carry.effect import Effect, Misses, effect, misses
from merging.diffusion.carry.two_bases import TwoBases
from merging.diffusion.layer_inputs import needs_latents
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.refine.concept import ModelChange
from merging.diffusion.textual_inversion import using_embeddings
from merging.errors import MergeError
from merging.linalg.carried import carried
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import MERGED_DTYPE, Delta, as_lora
from merging.linalg.row_statistics import RowStatistics
from merging.request import Source
from merging.runtime.memory import explain_out_of_memory
from merging.runtime.progress import Progress, Stop, never, part, prefixed, silent
from merging.runtime.seeds import seed_for
from merging.source_deltas import source_deltas
from merging.vector_deltas import scaled_shifts

REMEDY = "take fewer samples, or another device"
CPU = torch.device("cpu")
HELD_OUT = 4  # so many times fewer prompts are held out than learned from


@dataclass(frozen=True)
class CarryOptions:
    """How a LoRA is carried."""

    trigger: str = ""  # trigger phrase; "" takes those in the file
    samples: int = 32  # prompts with the trigger, and as many without it
    rows: int | None = 256  # at most so many positions of a picture count; None: all
    ridge: float = 1e-3  # μ / ‖X̃ᵀX̃‖_F
    steps: int = 0  # of training from there (merging/diffusion/carry/distil.py); 0: none
    seed: int = 0


@dataclass(frozen=True)
class Carried:
    """The carried LoRA, and how far it and the file as it is miss the effect on the old base."""

    adapter: Adapter
    plain: Misses  # the file loaded on the new base as it is, on held-out prompts
    carried: Misses
    notes: tuple[str, ...]


def carry(
    adapter: Adapter,
    old: Base,
    new: Base,
    options: CarryOptions | None = None,
    progress: Progress = silent,
    stop: Stop = never,
) -> Carried:
    """Carry a LoRA that was read for ``old`` to ``new`` (merging/linalg/carried.py).

    Every layer keeps its rank; biases, normalisations and textual inversions stay as they are.
    Raises MergeError for bases of different architectures, a LoRA that does not fit, one without a
    trigger phrase, and where memory does not suffice; Cancelled once ``stop`` turns true.
    """
    work = _Work(adapter, old, new, options or CarryOptions())
    with ExitStack() as around:
        around.enter_context(explain_out_of_memory(f"Carrying the LoRA on {new.device}", REMEDY))
        for base in work.bases:
            around.enter_context(base.parked("vae", "safety_checker"))
            around.enter_context(using_embeddings(base, adapter.embeddings))
            around.enter_context(using_clip_skip(base, work.source.clip_skip))
            around.enter_context(base.stopping_at_layers(stop))
        return work.run(progress, stop)


@dataclass
class _Work:
    """A LoRA being carried."""

    adapter: Adapter
    old: Base
    new: Base
    options: CarryOptions
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that all three belong together."""
        check_options(self.options)
        check_same_architecture(self.old, self.new)
        self.source = Source(self.adapter, trigger=self.options.trigger)
        self.deltas = dict(source_deltas(self.source, self.notes))
        self.shifts = scaled_shifts(self.source)
        self.sweep = Sweep(
            deltas=(self.deltas,),
            targets=self._targets(),
            fixed={},
            row_sets=row_sets(self.source, self.options),
            merged_inputs=True,
            rows=self.options.rows,
            seed=self.options.seed,
            clip_skip=self.source.clip_skip,
            embeddings=self.adapter.embeddings,
            shifts=(self.shifts,),
        )
        check_layers(self.old, self.sweep)

    @property
    def bases(self) -> list[Base]:
        """Both bases, one if they are the same."""
        return [self.old, *([self.new] if self.new is not self.old else [])]

    def run(self, progress: Progress, stop: Stop) -> Carried:
        """Solve every layer, train if asked to, and measure on prompts that were held out."""
        closed = 0.4 if self.options.steps else 0.8  # shares of the time, roughly
        layers = self._solve(part(progress, 0.0, closed), stop)
        held_out = replace(self.sweep, row_sets=row_sets(self.source, self.options, held_out=True))
        drawing = part(progress, closed, closed + 0.1)
        samples = draw_samples(self.old, held_out, True, drawing, stop)
        progress(closed + 0.1, "comparing")
        wanted = self._effect(self.old, samples, self.deltas, stop)
        plain, after = (self._misses(wanted, samples, one, stop) for one in (self.deltas, layers))
        if self.options.steps:
            layers = self._distil(layers, part(progress, 0.5, 1.0), stop)
            solved, after = after, self._misses(wanted, samples, layers, stop)
            self.notes.append(
                f"{self.options.steps} steps of training: the predicted noise misses the LoRA's "
                f"effect by {solved.noise:.1%} before and {after.noise:.1%} after."
            )
        progress(1.0, "carried")
        return Carried(self._adapter(layers), plain, after, tuple(self.notes))

    def _distil(
        self, layers: Mapping[str, Delta], progress: Progress, stop: Stop
    ) -> dict[str, Delta]:
        """Layer → change, trained from the closed form on."""
        prompts = [prompt for row_set in self.sweep.row_sets for prompt in row_set.prompts]
        lora = ModelChange(self.deltas, self.shifts).on(self.old)
        steps, seed = self.options.steps, self.options.seed
        return distil(lora, self.old, self.new, layers, prompts, steps, seed, progress, stop)

    def _misses(
        self, wanted: Effect, samples: Sequence[Sample], deltas: Mapping[str, Delta], stop: Stop
    ) -> Misses:
        return misses(wanted, self._effect(self.new, samples, deltas, stop))

    def _solve(self, progress: Progress, stop: Stop) -> dict[str, Delta]:
        """Layer → change on the new base, float32."""
        latents = needs_latents(self.sweep.targets)
        samples = draw_samples(self.old, self.sweep, latents, part(progress, 0.0, 0.5), stop)
        results = dict(self.deltas)

        def solve(layer: str, _weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
            return carried(replace(self._problem(layer), rows=rows)).to(CPU, MERGED_DTYPE)

        share = prefixed(part(progress, 0.5, 1.0), "carrying")
        two = TwoBases(self.old, self.new, self.sweep, solve, results, share, stop)
        with ExitStack() as around:
            for base in self.bases:
                around.enter_context(base.changed(self.shifts))
            two.run(batches(self.old, samples, streams=2))
        if two.missed:
            self.notes.append(
                f"{len(two.missed)} layers that clip skip {self.sweep.clip_skip} leaves out stay "
                f"as they are, first {two.missed[0]}."
            )
        return results

    def _effect(
        self, base: Base, samples: Sequence[Sample], deltas: Mapping[str, Delta], stop: Stop
    ) -> Effect:
        return effect(base, samples, deltas, self.shifts, self.options.rows, stop)

    def _problem(self, layer: str) -> LayerProblem:
        """The layer without rows."""
        delta, ridge = self.deltas[layer], self.options.ridge
        return LayerProblem(layer, (delta,), (1.0,), alpha=ridge, weighting="uniform")

    def _targets(self) -> tuple[str, ...]:
        """The layers to solve; others stay as they are, which is noted."""
        sets = row_sets(self.source, self.options)
        wide = [name for name in self.deltas if gram_bytes(self._problem(name), sets) > GRAM_BYTES]
        if wide:
            self.notes.append(
                f"{len(wide)} layers too wide for {GRAM_BYTES / 2**30:g} GiB of Gram matrices "
                f"stay as they are, first {wide[0]}."
            )
        return tuple(name for name in self.deltas if name not in wide)

    def _adapter(self, layers: Mapping[str, Delta]) -> Adapter:
        return replace(
            self.adapter,
            layers={name: as_lora(delta) for name, delta in layers.items()},
            base=self.new.table.name,
            trigger=self.source.phrase,
            family="carried",
        )


def row_sets(source: Source, options: CarryOptions, held_out: bool = False) -> tuple[RowSet, ...]:
    """The LoRA on prompts with each of its triggers, and on prompts without: it acts in all.

    Those held out are the next of the same lists.
    """
    count, seed = options.samples, options.seed
    few = max(1, count // HELD_OUT)
    phrases = source.words.split(", ")
    sets = [
        RowSet(phrase, concept_prompts(phrase, count + few, seed_for(seed, phrase)), (1.0,))
        for phrase in phrases
    ]
    plain = plain_prompts(count + few, seed_for(seed, "plain"), phrases)
    kept = slice(count, None) if held_out else slice(count)
    return tuple(
        replace(one, prompts=one.prompts[kept])
        for one in (*sets, RowSet("everything else", plain, (1.0,)))
    )


def check_options(options: CarryOptions) -> None:
    """MergeError for numbers that nothing can be carried with."""
    if options.samples < 1:
        raise MergeError(f"Carrying needs at least 1 sample, not {options.samples}.")
    if options.steps < 0:
        raise MergeError(f"There are no {options.steps} steps of training; give 0 or more.")
    if not (options.ridge > 0 and isfinite(options.ridge)):
        raise MergeError(f"The ridge must be a number above 0, not {options.ridge:g}.")


def check_same_architecture(old: Base, new: Base) -> None:
    """MergeError, with a layer, for bases whose layers differ by name or shape."""
    shapes, others = old.table.shapes, new.table.shapes
    for name in dict.fromkeys([*shapes, *others]):
        if shapes.get(name) != others.get(name):
            one, other = (str(table.get(name, "no such layer")) for table in (shapes, others))
            raise MergeError(
                f"{old.name} and {new.name} are of different architectures: {name} is {one} in "
                f"the first and {other} in the second. A LoRA can be carried between fine-tunes "
                "of one base only."
            )
