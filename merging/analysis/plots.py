"""Plots of a merge's report (error, drift and fallback by layer) and of a rank curve."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from merging.analysis.rank_curve import CurvePoint
from merging.report import LayerReport, Report

LINES = {"base": "nothing merged", "sum": "plain sum", "regmean": "RegMean", "merged": "this merge"}
COLOURS = {"base": "#9aa0a6", "sum": "#d98c3f", "regmean": "#5b8def", "merged": "#7a3fd9"}
FLOOR = 1e-6  # of the logarithmic axis: smaller objectives are drawn here


def report_plot(report: Report) -> Image.Image:
    """Objective, drift and fallback by layer, in forward order.

    Axes are empty if no layer was solved from activations.
    """
    solved = [row for row in report.layers if row.objective]
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    error, drift, fallback = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    _draw_objectives(error, solved)
    _draw_drift(drift, solved)
    _draw_fallback(fallback, solved)
    figure.suptitle(f"{report.method}, {len(solved)} of {len(report.layers)} layers solved")
    return picture(figure)


def picture(figure: Figure) -> Image.Image:
    """The figure as an image; the same figure gives the same bytes."""
    file = BytesIO()
    figure.savefig(file, dpi=120, format="png", metadata={"Software": None})
    return Image.open(file)


def _draw_objectives(axes: Axes, rows: list[LayerReport]) -> None:
    for name, title in LINES.items():
        values = [max(row.objective.get(name, float("nan")), FLOOR) for row in rows]
        axes.plot(values, label=title, color=COLOURS[name], linewidth=2 if name == "merged" else 1)
    axes.set_yscale("log")
    axes.set_ylabel("error on calibration inputs")
    if rows:
        axes.legend(ncols=len(LINES), fontsize="small")


def _draw_drift(axes: Axes, rows: list[LayerReport]) -> None:
    for name in dict.fromkeys(name for row in rows for name in row.drift):
        axes.plot([row.drift.get(name, float("nan")) for row in rows], label=name, linewidth=1)
    axes.set_ylabel("input drift")
    if rows:
        axes.legend(fontsize="small")


def _draw_fallback(axes: Axes, rows: list[LayerReport]) -> None:
    shares = [row.fallback_share or 0.0 for row in rows]
    axes.fill_between(range(len(rows)), shares, color=COLOURS["base"])
    axes.set_ylim(0, 1)
    axes.set_ylabel("from the fallback")
    axes.set_xlabel("layer, in forward order")


def curve_plot(points: tuple[CurvePoint, ...], title: str) -> Image.Image:
    """Energy over size, a dot and its rank at every point."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [point.megabytes for point in points],
        [100 * point.energy for point in points],
        marker="o",
        color="#7a3fd9",
    )
    for point in points:
        position = (point.megabytes, 100 * point.energy)
        axes.annotate(f"{point.rank}", position, xytext=(4, -12), textcoords="offset points")
    axes.set_xlabel("MB of weights")
    axes.set_ylabel("energy kept, %")
    axes.set_title(f"{title}: a dot per rank")
    return picture(figure)
