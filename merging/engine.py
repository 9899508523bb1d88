"""A merge, from the request to the merged adapter and its report.

Calibration comes in as a callable (`Activations`), so that this file needs no model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.calibration.cost import merge_cost, refinement, unrefined_cost
from merging.calibration.plan import Activations, Refiner, Sweep
from merging.calibration.refine_plan import refine_plan
from merging.calibration.row_sets import row_sets
from merging.calibration.target_layers import (
    GRAM_BYTES,
    clip_skip_notes,
    gram_bytes,
    solved_layers,
)
from merging.calibration.teachers import composite_deltas, composite_shifts
from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import MERGED_DTYPE, Delta, as_lora
from merging.linalg.diagnostics import fallback_share, objectives
from merging.linalg.low_rank import truncate
from merging.linalg.row_statistics import RowStatistics
from merging.methods import METHODS, Method
from merging.options import Rank
from merging.report import LayerReport, Report, Watch, no_watch
from merging.request import MergeRequest
from merging.runtime.phases import Phases
from merging.runtime.progress import Progress, Stop, check, never, part, silent
from merging.runtime.threads import workers
from merging.source_deltas import source_deltas
from merging.vector_deltas import VectorDeltas, merge_shifts, notes, scaled_shifts


@dataclass(frozen=True)
class MergeResult:
    """The request, the merged adapter and the report."""

    request: MergeRequest
    adapter: Adapter
    report: Report


@dataclass
class _Work:
    """A merge under way: the request, and the layers merged so far."""

    request: MergeRequest
    deltas: tuple[Mapping[str, Delta], ...]
    report: Report
    watch: Watch
    shifts: tuple[VectorDeltas, ...]
    merged: dict[str, Delta] = field(default_factory=dict)
    phases: Phases = field(default_factory=Phases)
    expected: int = 0  # layers that are to be solved

    @property
    def method(self) -> Method:
        return METHODS[self.request.method]

    def problem(self, layer: str) -> LayerProblem:
        """The layer as every method sees it, without rows."""
        sources = self.request.sources
        return LayerProblem(
            name=layer,
            deltas=tuple(deltas.get(layer) for deltas in self.deltas),
            strengths=tuple(source.strength for source in sources),
            names=tuple(source.adapter.sha256 or source.adapter.name for source in sources),
            steps=tuple(source.step for source in sources),
            alpha=self.request.ridge,
            cross_alpha=self.request.cross_ridge,
            fallback=self.request.fallback,
            mode=self.request.mode,
            # RegMean weighs all row sets the same, whatever the option.
            weighting="uniform" if self.method.needs == "inputs" else self.request.weighting,
            seed=self.request.seed,
        )


@dataclass(frozen=True)
class _Solution:
    """One layer, merged."""

    problem: LayerProblem
    delta: Delta
    kept_energy: float  # share of the energy that its rank keeps


def merge(
    request: MergeRequest,
    activations: Activations | None = None,
    progress: Progress = silent,
    stop: Stop = never,
    watch: Watch = no_watch,
    refiner: Refiner | None = None,
) -> MergeResult:
    """Merge the sources into one adapter; ``watch`` gets every layer's report as it is solved.

    Raises MergeError for what the user can mend, Cancelled once ``stop`` turns true.
    """
    started = time.perf_counter()
    report = Report(METHODS[request.method].title)
    deltas = tuple(source_deltas(source, report.notes) for source in request.sources)
    work = _Work(request, deltas, report, watch, tuple(map(scaled_shifts, request.sources)))
    refines = refinement(request) is not None
    if refines and refiner is None:
        raise MergeError("Refining a merge needs a base model; choose one, or set refine to 0.")
    solved = unrefined_cost(request) / merge_cost(request)  # share of the time
    solving = part(progress, 0.0, solved)
    if work.method.needs == "nothing":
        _merge_weights(work, solving, stop)
    else:
        _merge_with_model(work, activations, solving, stop)
    shifts = merge_shifts(work.shifts, work.method, work.problem)
    if refines and refiner is not None:
        plan = refine_plan(request, work.deltas, work.shifts, work.merged, shifts, work.phases)
        refined = refiner(plan, part(progress, solved, 1.0), stop)
        work.merged |= refined.layers
        report.notes += refined.notes
    report.notes += notes(request, shifts)
    order = _layer_order(work.deltas)
    layers = {
        layer: as_lora(work.merged[layer]) for layer in order if _is_nonzero(work.merged[layer])
    }
    if not layers:
        raise MergeError(
            "The merge changes nothing: all strengths are 0, or the LoRAs cancel each other; raise "
            "a strength."
        )
    report.layers.sort(key=lambda row: order.index(row.layer))
    report.seconds, report.phases = time.perf_counter() - started, work.phases.parts
    progress(1.0, "merged")
    return MergeResult(request, replace(_merged_adapter(request, layers), shifts=shifts), report)


def _is_nonzero(delta: Delta) -> bool:
    """Whether it changes anything; components are sorted by size."""
    return delta.rank > 0 and bool(delta.up[:, 0].any())


def _merge_weights(work: _Work, progress: Progress, stop: Stop) -> None:
    """Merge by the LoRAs' weights alone, many layers in parallel."""
    layers = _layer_order(work.deltas)
    work.expected = len(layers)

    def solve(layer: str) -> _Solution:
        check(stop)
        solution = _solve_and_truncate(work.request, work.problem(layer), work.method)
        return replace(solution, delta=_in_float32(solution.delta))

    with work.phases("solving"), workers() as pool:
        for done, solution in enumerate(pool.map(solve, layers)):
            progress(done / len(layers), f"merging, layer {done + 1} of {len(layers)}")
            _record(work, solution, work.method)


def _merge_with_model(
    work: _Work, activations: Activations | None, progress: Progress, stop: Stop
) -> None:
    """Merge with the base model: layers that are not calibrated first, then one sweep."""
    if activations is None:
        raise MergeError(f"{work.method.title} needs a base model; choose one.")
    work.deltas = tuple(map(dict, work.deltas))  # float64 factors, once for all forward passes
    layers = _layer_order(work.deltas)
    sets = row_sets(work.request) if work.method.calibrated else ()
    inside = solved_layers(layers, work.request) if sets else layers
    targets = [layer for layer in inside if gram_bytes(work.problem(layer), sets) <= GRAM_BYTES]
    outside = [layer for layer in layers if layer not in set(inside)]
    scope = "text keys and values" if work.method.on_phrases else work.request.targets
    skip = f", clip skip {work.request.clip_skip}" if work.request.clip_skip > 1 else ""
    _merge_fallback(work, outside, f"outside the targets ({scope}{skip})")
    work.report.notes += clip_skip_notes(work.request) if sets else []
    wide = [layer for layer in inside if layer not in set(targets)]
    _merge_fallback(work, wide, f"too wide for {GRAM_BYTES / 2**30:g} GiB of Gram matrices")
    if not targets:
        return
    work.expected = len(targets)
    sweep = Sweep(
        deltas=work.deltas,
        composites=composite_deltas(work.request, layers, work.problem),
        composite_shifts=composite_shifts(work.request, work.shifts),
        targets=tuple(targets),
        fixed=dict(work.merged),
        row_sets=sets,
        merged_inputs=work.method.needs == "merged inputs",
        residual=work.request.mode != "delta",
        padding=work.request.padding,
        tokens=work.request.counted_tokens,
        rows=work.request.rows,
        rounds=work.request.rounds,
        seed=work.request.seed,
        clip_skip=work.request.clip_skip,
        embeddings=work.request.all_embeddings,
        shifts=work.shifts,
        phases=work.phases,
    )

    def solve(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        composites = tuple(composite.get(layer) for composite in sweep.composites)
        problem = replace(work.problem(layer), weight=weight, rows=rows, composites=composites)
        return _solve_layer(work, problem, work.method)

    activations(sweep, solve, part(progress, 0.02, 0.98), stop)


def _merge_fallback(work: _Work, layers: list[str], why: str) -> None:
    """Layers that are not calibrated: their sum or average, and a note with the reason."""
    if not layers:
        return
    name = "average" if work.request.fallback == "mean" else "sum"
    for layer in layers:
        _solve_layer(work, work.problem(layer), METHODS[name])
    work.report.notes.append(
        f"{len(layers)} layers {why} were merged by {METHODS[name].title.lower()}, "
        f"first {layers[0]}."
    )


def _solve_layer(work: _Work, problem: LayerProblem, method: Method) -> Delta:
    """Solve one layer, truncate it to its rank, and add it to the report."""
    with work.phases("solving"):
        solution = _solve_and_truncate(work.request, problem, method)
    work.report.layers = [row for row in work.report.layers if row.layer != problem.name]
    with work.phases("reporting"):
        _record(work, solution, method)
    return solution.delta


def _solve_and_truncate(request: MergeRequest, problem: LayerProblem, method: Method) -> _Solution:
    """The layer merged and truncated; errors are measured on its inputs where they are known."""
    rank = _target_rank(request, problem)
    metric = problem.system.factor if problem.rows and rank not in ("exact", "full") else None
    return _Solution(problem, *truncate(method.solve(problem), rank, metric))


def _record(work: _Work, solution: _Solution, method: Method) -> None:
    """Store the layer's change and its report."""
    work.merged[solution.problem.name] = _in_float32(solution.delta)
    row = _layer_report(work, solution, method)
    work.report.layers.append(row)
    work.watch(row, work.expected)


def _target_rank(request: MergeRequest, problem: LayerProblem) -> Rank:
    """The option ``rank``; where "exact" would be dense, Σ r_i instead."""
    if request.rank == "exact" and problem.rows and request.mode != "delta":
        return sum(delta.rank for delta in problem.present)
    return request.rank


def _in_float32(delta: Delta) -> Delta:
    return delta.to(torch.device("cpu"), MERGED_DTYPE)


def _layer_report(work: _Work, solution: _Solution, method: Method) -> LayerReport:
    """The numbers of one layer."""
    problem, delta = solution.problem, solution.delta
    names = [source.adapter.name for source in work.request.sources]
    sources = [name for name, lora in zip(names, problem.deltas, strict=True) if lora is not None]
    plain = LayerReport(
        problem.name, tuple(sources), delta.rank, solution.kept_energy, method.title
    )
    if not problem.rows:
        return plain
    return replace(
        plain,
        objective=objectives(problem, delta),
        drift={rows.name: rows.drift() for rows in problem.rows},
        condition=problem.system.condition(),
        # Custom Diffusion has no ridge on the LoRAs' changes.
        fallback_share=None if method.on_phrases else fallback_share(problem, delta),
    )


def _layer_order(deltas: tuple[Mapping[str, Delta], ...]) -> list[str]:
    """Every layer of any LoRA: in the first LoRA's order, then further ones of the next LoRAs."""
    return list(dict.fromkeys(layer for lora in deltas for layer in lora))


def _merged_adapter(request: MergeRequest, layers: dict) -> Adapter:
    """The merged adapter, named after the method and the sources, with all trigger phrases."""
    sources = request.sources
    return Adapter(
        name=f"{request.method}_" + "+".join(source.adapter.name for source in sources),
        layers=layers,
        base=sources[0].adapter.base,
        family="merged",
        trigger=", ".join(dict.fromkeys(one.phrase for one in sources if one.phrase)),
        embeddings=request.all_embeddings,
    )
