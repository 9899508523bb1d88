"""The job behind “Merge and draw”: the argument first, the merge beside it, what it shows.

The first prompt and seed are drawn in every column that needs no merge, then comes the merge, then
its picture beside them. All other prompts and seeds follow, the merge and what it is compared with
first.
"""

from __future__ import annotations

from pathlib import Path

from app.jobs.draw import Drawer, load_scorer, round_stages
from app.jobs.judging import judging_stages
from app.jobs.merge import make_merge
from app.jobs.models import Bases
from app.jobs.panels import panels
from app.jobs.progress import Emit, report_steps
from app.jobs.sources import read_request
from app.jobs.timing.pace import Measured, Stage, pace_key
from app.jobs.timing.timetable import Timetable
from app.schemas.draw import ComparisonOrder
from merging.calibration.cost import merge_cost
from merging.runtime.progress import Stop


def comparison_job(
    bases: Bases, order: ComparisonOrder, folder: Path, emit: Emit, stop: Stop
) -> None:
    """Emit Steps of the whole, the pictures without the merge, the FinishedMerge, and the rest.

    All files are read before anything is drawn, so that a wrong one is refused at once.
    """
    base = bases.get(order.merge.base, order.merge.precision, report_steps(emit))
    request = read_request(order.merge, base.weight)
    before = order.before
    columns = panels(before, base)
    scorer = load_scorer(bases, base, order.scene, emit)
    timetable = Timetable(emit, comparison_stages(order, merge_cost(request)))
    total = (len(columns) + order.columns_after) * len(order.scene.scenes)
    drawer = Drawer(bases, base, scorer, folder / "pictures", total, timetable, emit, stop)
    first, *others = order.scene.rounds
    drawer.draw(before, columns, first)
    progress = timetable.next_stage()
    merged = make_merge(order.merge, request, base, folder, timetable, progress, stop)
    emit(merged)
    after = order.after(merged)
    columns_after = panels(after, base)
    drawer.draw(after, columns_after, first)
    for scenes in others:
        drawer.draw(after, columns_after, scenes)
        drawer.draw(before, columns[::-1], scenes)
    drawer.judge(order.drawn(merged))
    emit(Measured(pace_key(order), timetable.end()))


def comparison_stages(order: ComparisonOrder, merging: float) -> list[Stage]:
    """All stages, with a merge of this cost."""
    scene, before, after = order.scene, order.columns_before, order.columns_after
    first, *others = scene.rounds
    stages = [
        *round_stages(scene, before, first),
        Stage("merging", merging),
        *round_stages(scene, after, first),
    ]
    for scenes in others:
        stages += round_stages(scene, before + after, scenes)
    return [*stages, *judging_stages(scene)]
