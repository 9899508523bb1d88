"""The report as a picture: the lines are the report's own numbers."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from merging.adapter import Adapter
from merging.analysis.plots import LINES, _draw_objectives, report_plot
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import merge
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE


def test_the_lines_are_the_reports_numbers(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    pair = [random_adapter(seed, marks=("q_proj", "attn2.to_k")) for seed in (1, 2)]
    request = MergeRequest(tuple(map(Source, pair)), samples=4, **SINGLE)
    report = merge(request, activations(base)).report
    axes = Figure().subplots()
    _draw_objectives(axes, report.layers)
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in axes.get_lines()}
    assert list(drawn) == list(LINES.values())
    assert drawn["this merge"] == [row.objective["merged"] for row in report.layers]
    assert drawn["nothing merged"] == [1.0] * len(report.layers)
    picture = report_plot(report)
    assert picture.size == (1200, 900) and len(picture.convert("RGB").getcolors(100_000)) > 20


def test_a_merge_of_weights_alone_has_an_empty_frame(
    random_adapter: Callable[..., Adapter],
) -> None:
    pair = [random_adapter(seed, marks=("q_proj",)) for seed in (1, 2)]
    report = merge(MergeRequest(tuple(map(Source, pair)), method="sum")).report
    assert report_plot(report).size == (1200, 900)
