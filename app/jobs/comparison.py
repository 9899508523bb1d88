"""The job behind “Merge and draw”: the argument first, the merge beside it, what it shows."""

from __future__ import annotations

from pathlib import Path

from app.jobs.draw import Drawer, draw_stages, load_scorer
from app.jobs.judging import judging_stages
from app.jobs.merge import make_merge
from app.jobs.models import Bases
from app.jobs.panels import panels
from app.jobs.progress import Emit, report_steps
from app.jobs.sources import read_request
from app.jobs.timetable import Stage, Timetable
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
    stages = [
        *draw_stages(before, len(columns)),
        Stage("merging", merge_cost(request)),
        *draw_stages(order.scene, order.columns_after),
        *judging_stages(order.scene),
    ]
    total = (len(columns) + order.columns_after) * len(order.scene.scenes)
    timetable = Timetable(emit, stages)
    drawer = Drawer(bases, base, scorer, folder / "pictures", total, timetable, emit, stop)
    drawer.draw(before, columns)
    progress = timetable.next_stage()
    merged = make_merge(order.merge, request, base, folder, timetable, progress, stop)
    emit(merged)
    after = order.after(merged)
    drawer.draw(after, panels(after, base))
    drawer.judge(order.drawn(merged))
