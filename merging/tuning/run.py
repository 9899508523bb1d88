"""A whole search: merges, judged; stored after every trial; and at the end on held-out prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import merge
from merging.errors import MergeError
from merging.export.recipe import recipe
from merging.export.save import recipe_base
from merging.io.atomic_write import write_whole
from merging.request import MergeRequest
from merging.runtime.progress import Progress, Stop, check, never, part, silent
from merging.tuning.judges import Judge, JudgeName, Pictures, build_judge_of
from merging.tuning.knobs import Knob, knobs_of, with_factors
from merging.tuning.search import Kind, Trial, best, search

KINDS: tuple[Kind, ...] = ("as given", "random", "tuned")
CLEAR = 2.0  # standard errors by which one must be better than another to be called better


@dataclass(frozen=True)
class Tuning:
    """How strengths are searched for."""

    judge: JudgeName = "objective"
    budget: int = 40  # merges by CMA-ES; as many with random strengths
    minutes: float | None = None  # the search ends after these, too
    by_block: bool = False
    pictures: Pictures = field(default_factory=Pictures)


@dataclass(frozen=True)
class Tuned:
    """The best of each kind, on the prompts that were tuned on and on those held out."""

    request: MergeRequest  # with the strengths to use
    trials: Sequence[Trial]
    best: dict[Kind, Trial]
    held_out: dict[Kind, list[float]]  # numbers of the judge
    verdict: str


def tune(
    base: Base,
    request: MergeRequest,
    tuning: Tuning,
    out: Path,
    progress: Progress,
    stop: Stop = never,
) -> Tuned:
    """Search for strengths, or go on with the search that is stored at ``out``.

    The same request gives the same trials, unless time ends them. Raises MergeError for what cannot
    be merged or judged, and if another search is stored there; Cancelled once ``stop`` is true.
    """
    if request.refine:
        raise MergeError("Tuning merges many times: leave out --refine, and refine the best.")
    if tuning.budget < 1:
        raise MergeError(f"--budget must be at least 1, not {tuning.budget}.")
    identity = _identity(base, request, tuning)
    known, knobs = _known(out, identity), knobs_of(request, tuning.by_block)
    judging = part(progress, 0.0, 0.2)
    judge = build_judge_of(tuning.judge, base, request, tuning.pictures, judging, stop)

    trials, said = list[Trial](), "strengths as given"

    def share(count: int) -> float:
        return 0.2 + 0.7 * count / (2 * tuning.budget + 1)

    def under_way(done: float, _text: str) -> None:
        progress(share(len(trials)) + done * (share(1) - share(0)), said)

    def merged(factors: Sequence[float], progress: Progress = under_way) -> Adapter:
        check(stop)
        factored = with_factors(request, knobs, factors)
        return merge(factored, activations(base), progress, stop).adapter

    found = search(
        lambda factors: fmean(judge(merged(factors))),
        len(knobs),
        tuning.budget,
        request.seed,
        known,
        _after(tuning.minutes),
    )
    for trial in found:
        trials.append(trial)
        if len(trials) > len(known):
            _store(out, identity, trials)
        top = max(trials, key=lambda one: one.score)
        said = f"merge {len(trials)}, best so far {top.score:.4f} ({top.kind})"
        progress(share(len(trials)), said)
    silently = partial(merged, progress=silent)
    return _judged(request, knobs, trials, judge, silently, progress)


def _judged(
    request: MergeRequest,
    knobs: Sequence[Knob],
    trials: Sequence[Trial],
    judge: Judge,
    merged: Callable[[Sequence[float]], Adapter],
    progress: Progress,
) -> Tuned:
    """The best of each kind on held-out prompts, and the strengths to use."""
    top = {kind: trial for kind in KINDS if (trial := best(trials, kind))}
    progress(0.9, "held-out prompts")
    held_out = {kind: judge(merged(trial.factors), True) for kind, trial in top.items()}
    progress(1.0, "tuned")
    chosen, words = verdict(held_out)
    tuned = with_factors(request, knobs, top[chosen].factors)
    return Tuned(tuned, trials, top, held_out, words)


def verdict(held_out: dict[Kind, list[float]]) -> tuple[Kind, str]:
    """Which strengths to use, and why: tuned ones only if they are clearly better.

    Numbers are compared pair by pair: better is a mean difference of two standard errors or more.
    """
    given = held_out["as given"]
    if "tuned" not in held_out or not _better(held_out["tuned"], given):
        return "as given", (
            "Tuning did not help: on held-out prompts the tuned strengths are not clearly better "
            "than the strengths as given; keep those."
        )
    if "random" in held_out and not _better(held_out["tuned"], held_out["random"]):
        return "tuned", (
            "On held-out prompts the tuned strengths are better than the strengths as given, but "
            "not clearly better than the best of as many random ones."
        )
    return "tuned", (
        "On held-out prompts the tuned strengths are better than the strengths as given and than "
        "the best of as many random ones."
    )


def _better(one: Sequence[float], other: Sequence[float]) -> bool:
    gains = [a - b for a, b in zip(one, other, strict=True)]
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return fmean(gains) > CLEAR * error


def _after(minutes: float | None) -> Stop:
    """Whether the minutes are over; never without any."""
    if minutes is None:
        return never
    end = time.monotonic() + 60 * minutes
    return lambda: time.monotonic() > end


def _identity(base: Base, request: MergeRequest, tuning: Tuning) -> dict[str, Any]:
    """All that decides the trials, as plain data; more budget only goes on."""
    drawn = tuning.pictures
    references = {name: [file.name for file in files] for name, files in drawn.references.items()}
    pictures = {"count": drawn.count, "steps": drawn.steps, "references": references}
    data = {
        "merge": {**recipe(request, *recipe_base(base)), "base_fingerprint": base.fingerprint},
        "judge": tuning.judge,
        "by_block": tuning.by_block,
        "pictures": {} if tuning.judge == "objective" else pictures,
    }
    return json.loads(json.dumps(data))


def _known(out: Path, identity: dict[str, Any]) -> list[Trial]:
    """The trials stored at ``out``; MergeError if they are of another search."""
    if not out.exists():
        return []
    try:
        saved = json.loads(out.read_text(encoding="utf-8"))
        rows = [
            (row["kind"], tuple(row["factors"]), float(row["score"])) for row in saved["trials"]
        ]
        same = saved["search"] == identity
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MergeError(f"{out} is no stored search; choose another file for --out.") from error
    if not same:
        raise MergeError(f"{out} has the trials of another search; choose another file for --out.")
    return [Trial(*row) for row in rows]


def _store(out: Path, identity: dict[str, Any], trials: Sequence[Trial]) -> None:
    """All trials so far, written whole."""
    top = max(trials, key=lambda trial: trial.score)
    data = {"search": identity, "best": asdict(top), "trials": [asdict(trial) for trial in trials]}
    write_whole(out, (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode())
