"""The story of a merge, top to bottom. Activations come as a callable: no model is needed here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.calibration.plan import Activations, Sweep
from merging.calibration.row_sets import row_sets
from merging.calibration.target_layers import GRAM_BYTES, gram_bytes, wanted_layers
from merging.calibration.teachers import composite_shifts, composites_of
from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, as_lora
from merging.linalg.diagnostics import fallback_share, objectives
from merging.linalg.low_rank import compressed
from merging.linalg.row_statistics import RowStatistics
from merging.methods import METHODS, Method
from merging.options import Rank
from merging.report import LayerReport, Report, Watch, unwatched
from merging.request import MergeRequest
from merging.runtime.phases import Phases
from merging.runtime.progress import Progress, Stop, check, never, part, silent
from merging.runtime.threads import workers
from merging.source_deltas import source_deltas
from merging.vector_deltas import Shifts, merged_shifts, notes, shifts_of

KEPT = torch.float32  # of merged factors: no file holds more, and it is half of the memory


@dataclass(frozen=True)
class MergeResult:
    """The merged adapter, what it was asked for by, and what there is to say of it."""

    request: MergeRequest
    adapter: Adapter
    report: Report


@dataclass
class _Work:
    """A merge under way: what is wanted, and what is done."""

    request: MergeRequest
    deltas: tuple[Mapping[str, Delta], ...]
    report: Report
    watch: Watch
    shifts: tuple[Shifts, ...]
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
            # RegMean's sets count alike, whatever is asked for.
            weighting="uniform" if self.method.needs == "inputs" else self.request.weighting,
            seed=self.request.seed,
        )


@dataclass(frozen=True)
class _Solved:
    """One layer, merged."""

    problem: LayerProblem
    delta: Delta
    kept: float  # the share of energy that its rank keeps


def merge(
    request: MergeRequest,
    activations: Activations | None = None,
    progress: Progress = silent,
    stop: Stop = never,
    watch: Watch = unwatched,
) -> MergeResult:
    """Merge the sources into one adapter; ``watch`` gets every layer's report as it is solved.

    Raises MergeError for what the user can mend, Cancelled once ``stop`` turns true.
    """
    started = time.perf_counter()
    report = Report(METHODS[request.method].title)
    deltas = tuple(source_deltas(source, report.notes) for source in request.sources)
    work = _Work(request, deltas, report, watch, tuple(map(shifts_of, request.sources)))
    if work.method.needs == "nothing":
        _merge_weights(work, progress, stop)
    else:
        _merge_with_model(work, activations, progress, stop)
    shifts = merged_shifts(work.shifts, work.method, work.problem)
    report.notes += notes(request, shifts)
    order = _layer_order(work.deltas)
    layers = {layer: as_lora(work.merged[layer]) for layer in order if _speaks(work.merged[layer])}
    if not layers:
        raise MergeError(
            "The merge changes nothing: all strengths are 0, or the LoRAs cancel each other; raise "
            "a strength."
        )
    report.layers.sort(key=lambda row: order.index(row.layer))
    report.seconds, report.phases = time.perf_counter() - started, work.phases.parts
    progress(1.0, "merged")
    return MergeResult(request, replace(_named(request, layers), shifts=shifts), report)


def _speaks(delta: Delta) -> bool:
    """Whether it changes anything; the largest component comes first."""
    return delta.rank > 0 and bool(delta.up[:, 0].any())


def _merge_weights(work: _Work, progress: Progress, stop: Stop) -> None:
    """Methods that look at nothing but the LoRAs themselves: layers wait for no other."""
    layers = _layer_order(work.deltas)
    work.expected = len(layers)

    def solve(layer: str) -> _Solved:
        check(stop)
        solved = _solved(work.request, work.problem(layer), work.method)
        return replace(solved, delta=_kept(solved.delta))

    with work.phases("solving"), workers() as pool:
        for done, solved in enumerate(pool.map(solve, layers)):
            progress(done / len(layers), f"layer {done + 1} of {len(layers)}")
            _note(work, solved, work.method)


def _merge_with_model(
    work: _Work, activations: Activations | None, progress: Progress, stop: Stop
) -> None:
    """Methods that look at the base model: the layers out of reach first, then one sweep."""
    if activations is None:
        raise MergeError(f"{work.method.title} needs a base model; choose one.")
    work.deltas = tuple(map(dict, work.deltas))  # made once for all forward passes
    layers = _layer_order(work.deltas)
    sets = row_sets(work.request) if work.method.calibrated else ()
    wanted = wanted_layers(layers, work.request) if sets else layers
    targets = [layer for layer in wanted if gram_bytes(work.problem(layer), sets) <= GRAM_BYTES]
    outside = [layer for layer in layers if layer not in set(wanted)]
    reach = "text keys and values" if work.method.on_phrases else work.request.targets
    _merge_fallback(work, outside, f"outside the targets ({reach})")
    wide = [layer for layer in wanted if layer not in set(targets)]
    _merge_fallback(work, wide, f"too wide for {GRAM_BYTES / 2**30:g} GiB of Gram matrices")
    if not targets:
        return
    work.expected = len(targets)
    sweep = Sweep(
        deltas=work.deltas,
        composites=composites_of(work.request, layers, work.problem),
        composite_shifts=composite_shifts(work.request, work.shifts),
        targets=tuple(targets),
        fixed=dict(work.merged),
        row_sets=sets,
        merged_inputs=work.method.needs == "merged inputs",
        residual=work.request.mode != "delta",
        padding=work.request.padding,
        tokens=work.request.counted,
        rows=work.request.rows,
        rounds=work.request.rounds,
        seed=work.request.seed,
        embeddings=work.request.words,
        shifts=work.shifts,
        phases=work.phases,
    )

    def solve(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        own = tuple(each.get(layer) for each in sweep.composites)
        problem = replace(work.problem(layer), weight=weight, rows=rows, composites=own)
        return _settle(work, problem, work.method)

    activations(sweep, solve, part(progress, 0.02, 0.98), stop)


def _merge_fallback(work: _Work, layers: list[str], why: str) -> None:
    """Layers that no activations reach: the plain sum, or the mean, and a note that says so."""
    if not layers:
        return
    name = "average" if work.request.fallback == "mean" else "sum"
    for layer in layers:
        _settle(work, work.problem(layer), METHODS[name])
    work.report.notes.append(
        f"{len(layers)} layers {why} were merged by {METHODS[name].title.lower()}, "
        f"first {layers[0]}."
    )


def _settle(work: _Work, problem: LayerProblem, method: Method) -> Delta:
    """Solve one layer, cut it to the wanted rank, and write down how it went."""
    with work.phases("solving"):
        solved = _solved(work.request, problem, method)
    work.report.layers = [row for row in work.report.layers if row.layer != problem.name]
    with work.phases("reporting"):
        _note(work, solved, method)
    return solved.delta


def _solved(request: MergeRequest, problem: LayerProblem, method: Method) -> _Solved:
    """The layer merged and cut; truncation measures errors on the inputs where they are known."""
    rank = _wanted_rank(request, problem)
    metric = problem.system.factor if problem.rows and rank not in ("exact", "full") else None
    return _Solved(problem, *compressed(method.solve(problem), rank, metric))


def _note(work: _Work, solved: _Solved, method: Method) -> None:
    """Keep the layer's change, and write down how it went."""
    work.merged[solved.problem.name] = _kept(solved.delta)
    row = _layer_report(work, solved, method)
    work.report.layers.append(row)
    work.watch(row, work.expected)


def _wanted_rank(request: MergeRequest, problem: LayerProblem) -> Rank:
    """Exact is Σ r_i; the modes whose answer is dense are cut to that, unless it is to be full."""
    if request.rank == "exact" and problem.rows and request.mode != "delta":
        return sum(delta.rank for delta in problem.present)
    return request.rank


def _kept(delta: Delta) -> Delta:
    return delta.to(torch.device("cpu"), KEPT)


def _layer_report(work: _Work, solved: _Solved, method: Method) -> LayerReport:
    """The numbers of one layer."""
    problem, delta = solved.problem, solved.delta
    names = [source.adapter.name for source in work.request.sources]
    sources = [name for name, own in zip(names, problem.deltas, strict=True) if own is not None]
    plain = LayerReport(problem.name, tuple(sources), delta.rank, solved.kept, method.title)
    if not problem.rows:
        return plain
    return replace(
        plain,
        objective=objectives(problem, delta),
        drift={rows.name: rows.drift() for rows in problem.rows},
        condition=problem.system.condition(),
        # Only the solver with a ridge on the LoRAs' changes has a part that is the ridge's.
        fallback_share=None if method.on_phrases else fallback_share(problem, delta),
    )


def _layer_order(deltas: tuple[Mapping[str, Delta], ...]) -> list[str]:
    """Every layer of any LoRA: the first LoRA's own order, then what the next ones add."""
    return list(dict.fromkeys(layer for own in deltas for layer in own))


def _named(request: MergeRequest, layers: dict) -> Adapter:
    """The merged adapter under a name of its own, calling every concept of its sources."""
    sources = request.sources
    return Adapter(
        name=f"{request.method}_" + "+".join(source.adapter.name for source in sources),
        layers=layers,
        base=sources[0].adapter.base,
        family="merged",
        trigger=", ".join(source.phrase for source in sources if source.phrase),
        embeddings=request.words,
    )
