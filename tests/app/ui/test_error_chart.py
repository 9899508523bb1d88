"""The chart of a merge's errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.ui.html.error_chart import HEIGHT, WIDTH, error_chart
from merging.report import LayerData, LayerReport, Report


def rows(errors: Sequence[float]) -> list[LayerData]:
    layers = [
        LayerReport(f"layer {i}", ("a",), 4, 1.0, "IterIS", {"sum": 1.0, "merged": error})
        for i, error in enumerate(errors)
    ]
    return Report("IterIS", layers).as_dict()["layers"]


def points(text: str, line: str) -> list[tuple[float, float]]:
    (line_points,) = re.findall(rf'<polyline class="{line}" points="([^"]*)"', text)
    return [tuple(map(float, point.split(","))) for point in line_points.split()]  # type: ignore[misc]


def test_lines_grow_from_left_to_right_and_less_error_is_lower() -> None:
    merged = points(error_chart(rows([1.0, 0.5, 0.1])), "merged")
    across, down = zip(*merged, strict=True)
    assert list(across) == sorted(across) and across[-1] > WIDTH - 10
    assert list(down) == sorted(down)


def test_errors_off_the_scale_stay_in_the_picture() -> None:
    for _, down in points(error_chart(rows([0.0, 1e9])), "merged"):
        assert 0 <= down <= HEIGHT


def test_nothing_is_drawn_where_nothing_was_solved() -> None:
    plain = Report("Sum", [LayerReport("layer", ("a",), 4, 1.0, "Weighted sum")])
    assert error_chart(plain.as_dict()["layers"]) == error_chart([]) == ""
