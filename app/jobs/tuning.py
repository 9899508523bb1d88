"""The search for strengths in the worker thread."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import cast

from app.jobs.job_thread import Emit
from app.jobs.models import Bases
from app.jobs.progress import report_steps
from app.jobs.sources import read_request
from app.schemas.task import folder_around
from app.schemas.tuning import TunedKind, TuneOrder, TuneResult
from merging.runtime.progress import Stop


def tune_job(bases: Bases, order: TuneOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Search, draw the search in ``folder``; emit Steps and at the end the TuneResult.

    The trials outlive a job that is stopped: the same order goes on from there.
    """
    from merging.tuning.judges import JudgeName
    from merging.tuning.plot import search_plot  # matplotlib, which other jobs do without
    from merging.tuning.run import Tuning, tune

    progress = report_steps(emit)
    base = bases.get(order.merge.base, order.merge.precision, progress)
    request = read_request(order.merge, base.weight)
    kept = folder_around(folder) / "tuning" / f"{order.key}.json"
    kept.parent.mkdir(exist_ok=True)
    tuning = Tuning(cast(JudgeName, order.judge), order.budget)
    tuned = tune(base, request, tuning, kept, progress, stop)
    plot = folder / "search.png"
    search_plot(tuned.trials).save(plot)
    given = [source.strength for source in request.sources]
    chosen = [source.strength for source in tuned.request.sources]
    best = tuple(
        TunedKind(
            kind,
            tuple(factor * strength for factor, strength in zip(trial.factors, given, strict=True)),
            trial.score,
            fmean(tuned.held_out[kind]),
        )
        for kind, trial in tuned.best.items()
    )
    factors = tuple(new / old if old else 1.0 for new, old in zip(chosen, given, strict=True))
    emit(TuneResult(order, factors, tuned.verdict, best, len(tuned.trials), plot))
