"""The story of a merge, top to bottom. Activations come as a callable: no model is needed here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from merging.adapter import Adapter
from merging.deltas import Delta, as_lora, scaled, stacked
from merging.errors import MergeError
from merging.gram import RowStatistics
from merging.low_rank import Rank, compressed
from merging.methods import METHODS, Method
from merging.progress import Progress, Stop, check, never, part, silent
from merging.prompts import concept_prompts, plain_prompts
from merging.report import LayerReport, Report
from merging.solve import (
    Fallback,
    LayerProblem,
    cholesky,
    damped_gram,
    nothing,
    objective,
    set_weights,
)
from merging.sweep import Activations, RowSet, Sweep

Targets = Literal["cross-attention", "attention", "all"]

MAX_SOURCES = 16
MAX_STRENGTH = 10.0
# The widest input whose Gram matrix is kept: 6144² float64 is 0.3 GB, and a few are held at once.
MAX_GRAM_WIDTH = 6144


@dataclass(frozen=True)
class Source:
    """One LoRA of a merge, as the user set it."""

    adapter: Adapter
    strength: float = 1.0  # as in <lora:name:strength>; negative and above 1 are allowed
    trigger: str = ""  # "" takes the adapter's own
    prompts: tuple[str, ...] = ()  # calibration prompts; () makes them from the trigger

    @property
    def phrase(self) -> str:
        """The words that call this concept, "" if nobody knows them."""
        return self.trigger.strip() or self.adapter.trigger.strip()


@dataclass(frozen=True)
class MergeRequest:
    """Everything that decides the bytes of a merge. Its own validation is the only one."""

    sources: tuple[Source, ...]
    method: str = "iteris"
    rank: Rank = "exact"
    targets: Targets = "attention"
    samples: int = 50  # calibration prompts per LoRA
    fallback: Fallback = "mean"  # where the calibration is silent
    alpha: float = 1e-3  # ridge, relative to the Gram matrices
    preserve: float = 0.0  # weight of prompts without any trigger, whose target is no change
    rounds: int | None = None  # None: the fixed point in one pass; k: the paper's k rounds
    seed: int = 0

    def __post_init__(self) -> None:
        """MergeError for what the user can mend."""
        _check_sources(self.sources)
        _check_choices(self)


@dataclass(frozen=True)
class MergeResult:
    """The merged adapter and what there is to say of it."""

    adapter: Adapter
    report: Report


@dataclass
class _Work:
    """A merge under way: what is wanted, and what is done."""

    request: MergeRequest
    deltas: tuple[dict[str, Delta], ...]
    report: Report
    merged: dict[str, Delta] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        return METHODS[self.request.method]

    def problem(self, layer: str) -> LayerProblem:
        """The layer as every method sees it, without rows."""
        return LayerProblem(
            name=layer,
            deltas=tuple(deltas.get(layer) for deltas in self.deltas),
            strengths=tuple(source.strength for source in self.request.sources),
            alpha=self.request.alpha,
            fallback=self.request.fallback,
        )


def merge(
    request: MergeRequest,
    activations: Activations | None = None,
    progress: Progress = silent,
    stop: Stop = never,
) -> MergeResult:
    """Merge the sources into one adapter.

    Raises MergeError for what the user can mend, Cancelled once ``stop`` turns true.
    """
    started = time.perf_counter()
    work = _Work(request, _aligned(request), Report(METHODS[request.method].title))
    if work.method.needs == "nothing":
        _merge_weights(work, progress, stop)
    else:
        _merge_activations(work, activations, progress, stop)
    order = _layer_order(work.deltas)
    layers = {layer: as_lora(work.merged[layer]) for layer in order if work.merged[layer].rank}
    if not layers:
        raise MergeError("The merge is empty: every strength is 0, or every LoRA is.")
    work.report.layers.sort(key=lambda row: order.index(row.layer))
    work.report.seconds = time.perf_counter() - started
    progress(1.0, "merged")
    return MergeResult(_named(request, layers), work.report)


def target_layers(layers: list[str], targets: Targets) -> list[str]:
    """Those of ``layers`` that are solved from activations; the text encoder always is."""
    wanted = {"cross-attention": (".attn2.",), "attention": (".attn1.", ".attn2."), "all": ("",)}
    return [
        layer
        for layer in layers
        if layer.startswith("text_encoder.") or any(mark in layer for mark in wanted[targets])
    ]


def row_sets(request: MergeRequest) -> tuple[RowSet, ...]:
    """One set per LoRA, on its own prompts under itself (the paper's), and the rows to preserve."""
    count = len(request.sources)
    sets = [
        RowSet(
            source.adapter.name,
            source.prompts or concept_prompts(source.phrase, request.samples, request.seed + i),
            weights=tuple(float(i == j) for j in range(count)),
        )
        for i, source in enumerate(request.sources)
    ]
    if request.preserve > 0:
        prompts = plain_prompts(request.samples, request.seed + count)
        sets.append(RowSet("preserved", prompts, (0.0,) * count, omega=request.preserve))
    return tuple(sets)


def _aligned(request: MergeRequest) -> tuple[dict[str, Delta], ...]:
    """Per LoRA: layer → change, every scale folded in."""
    return tuple(
        {name: scaled(layer, source.strength) for name, layer in source.adapter.layers.items()}
        for source in request.sources
    )


def _merge_weights(work: _Work, progress: Progress, stop: Stop) -> None:
    """Methods that look at nothing but the LoRAs themselves."""
    layers = _layer_order(work.deltas)
    for done, layer in enumerate(layers):
        check(stop)
        progress(done / len(layers), f"layer {done + 1} of {len(layers)}")
        _settle(work, work.problem(layer), work.method)


def _merge_activations(
    work: _Work, activations: Activations | None, progress: Progress, stop: Stop
) -> None:
    """Methods that look at the layers' inputs: the layers out of reach first, then one sweep."""
    if activations is None:
        raise MergeError(f"{work.method.title} needs a base model to run the prompts; choose one.")
    layers = _layer_order(work.deltas)
    sizes = {layer: work.problem(layer).present[0].down.shape[1] for layer in layers}
    targets = [
        layer
        for layer in target_layers(layers, work.request.targets)
        if sizes[layer] <= MAX_GRAM_WIDTH
    ]
    _merge_fallback(work, [layer for layer in layers if layer not in set(targets)])
    if not targets:
        return
    sweep = Sweep(
        deltas=work.deltas,
        targets=tuple(targets),
        fixed=dict(work.merged),
        row_sets=row_sets(work.request),
        merged_inputs=work.method.needs == "merged inputs",
        rounds=work.request.rounds,
        seed=work.request.seed,
    )

    def solve(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        problem = replace(work.problem(layer), weight=weight, rows=rows)
        return _settle(work, problem, work.method)

    activations(sweep, solve, part(progress, 0.02, 0.98), stop)


def _merge_fallback(work: _Work, layers: list[str]) -> None:
    """Layers that no activations reach: the plain sum, or the mean, and a note that says so."""
    if not layers:
        return
    name = "average" if work.request.fallback == "mean" else "sum"
    for layer in layers:
        _settle(work, work.problem(layer), METHODS[name])
    work.report.notes.append(
        f"{len(layers)} layers outside the targets ({work.request.targets}) were merged by "
        f"{METHODS[name].title.lower()}, first {layers[0]}."
    )


def _settle(work: _Work, problem: LayerProblem, method: Method) -> Delta:
    """Solve one layer, cut it to the wanted rank, and write down how it went."""
    weighting: Literal["merged", "uniform"] = "uniform" if method.needs == "inputs" else "merged"
    weights = set_weights(problem, weighting)
    metric = cholesky(damped_gram(problem, weights), problem.name) if problem.rows else None
    delta, kept = compressed(method.solve(problem), work.request.rank, metric)
    work.merged[problem.name] = delta
    work.report.layers = [row for row in work.report.layers if row.layer != problem.name]
    work.report.layers.append(_layer_report(work, problem, method, delta, kept, weights))
    return delta


def _layer_report(
    work: _Work,
    problem: LayerProblem,
    method: Method,
    delta: Delta,
    kept: float,
    weights: list[float],
) -> LayerReport:
    """The numbers of one layer; objectives are relative to leaving the layer as it is."""
    names = [source.adapter.name for source in work.request.sources]
    reference = objective(problem, nothing(problem), weights) if problem.rows else 0.0
    answers = {"sum": stacked(problem.present), "merged": delta} if reference > 0 else {}
    return LayerReport(
        layer=problem.name,
        sources=tuple(
            name for name, own in zip(names, problem.deltas, strict=True) if own is not None
        ),
        rank=delta.rank,
        kept_energy=kept,
        method=method.title,
        objective={
            key: objective(problem, answer, weights) / reference for key, answer in answers.items()
        },
        drift={rows.name: rows.drift() for rows in problem.rows},
    )


def _layer_order(deltas: tuple[dict[str, Delta], ...]) -> list[str]:
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
    )


def _check_sources(sources: tuple[Source, ...]) -> None:
    if not 1 <= len(sources) <= MAX_SOURCES:
        raise MergeError(f"A merge takes 1 to {MAX_SOURCES} LoRAs; {len(sources)} were given.")
    hashes = [source.adapter.sha256 for source in sources if source.adapter.sha256]
    for source in sources:
        if hashes.count(source.adapter.sha256) > 1:
            raise MergeError(
                f"{source.adapter.name}: the same file is given twice; raise its strength instead."
            )
    bases = {source.adapter.base: source.adapter.name for source in sources}
    if len(bases) > 1:
        listed = ", ".join(f"{name} is for {base}" for base, name in bases.items())
        raise MergeError(f"The LoRAs are for different base models ({listed}); merge like with like.")
    for source in sources:
        if not abs(source.strength) <= MAX_STRENGTH:
            raise MergeError(
                f"{source.adapter.name}: strength {source.strength} is outside "
                f"−{MAX_STRENGTH:g} … {MAX_STRENGTH:g}."
            )


def _check_choices(request: MergeRequest) -> None:
    if request.method not in METHODS:
        raise MergeError(f"No method is called {request.method!r}; there are {', '.join(METHODS)}.")
    if isinstance(request.rank, int) and request.rank < 1:
        raise MergeError(f"The rank must be exact, auto or at least 1, not {request.rank}.")
    if not 1 <= request.samples <= 1000:
        raise MergeError(f"Samples per LoRA must be 1 to 1000, not {request.samples}.")
    if request.alpha <= 0 or request.preserve < 0:
        raise MergeError("The ridge must be above 0, and the weight of preserved prompts not below.")
    if request.rounds is not None and request.rounds < 1:
        raise MergeError(f"Rounds must be at least 1, not {request.rounds}.")
    if METHODS[request.method].needs != "nothing":
        for source in request.sources:
            if not source.phrase and not source.prompts:
                raise MergeError(
                    f"{source.adapter.name}: no trigger phrase in the file; type the words that "
                    "call its concept, or give it prompts of its own."
                )
