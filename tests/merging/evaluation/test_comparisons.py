"""Contestants compared picture by picture."""

from __future__ import annotations

import pytest

from merging.bundled import LORAS
from merging.evaluation.cases import Case, Concept, picture_tasks
from merging.evaluation.cells import CellResult
from merging.evaluation.comparisons import (
    Cells,
    best_merge,
    comparison_table,
    comparisons,
    gain,
)
from merging.evaluation.intervals import interval

PAIR = (
    Concept(LORAS / "sks-cat.safetensors", "sks cat"),
    Concept(LORAS / "vxz-pizza.safetensors", "vxz pizza"),
)
COUNT = 20
CASE = Case("some", "objects", "tuning", PAIR, picture_tasks(PAIR, ["dog"], COUNT))
HARD = [float(i % 2) for i in range(COUNT)]  # every second picture is lost by everybody


def cell(together: list[float], alone: float = 1.0, prior: float = 1.0) -> CellResult:
    rows = [{"present": value, "text": 0.1 * value} for value in together]
    rows += [{"alone": alone, "image": 0.5}] * COUNT + [{"prior": prior, "text": 0.5}] * COUNT
    return CellResult(tuple(rows))


def cells(**rows: CellResult) -> Cells:
    return {(key.replace("_", "-"), "some"): row for key, row in rows.items()}


def test_the_same_pictures_are_no_better() -> None:
    found = gain(
        "sum", "tsv", ["present"], "together", [CASE], cells(sum=cell(HARD), tsv=cell(HARD))
    )
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_pairs_tell_apart_what_means_do_not() -> None:
    """Always a little better on the same seeds: clear, though the intervals of both overlap."""
    better = [value + 0.1 for value in HARD]
    both = cells(sum=cell(HARD), tsv=cell(better))
    found = gain("tsv", "sum", ["present"], "together", [CASE], both)
    assert found is not None
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert interval([better]).low < interval([HARD]).high


def test_what_is_forgotten_is_beside_each_and_the_base() -> None:
    rows = cells(base=cell(HARD, alone=0.0, prior=0.9), each=cell(HARD), tsv=cell(HARD, 0.75, 0.5))
    found = comparisons(["base", "each", "tsv"], [CASE], rows)["rows"]
    assert found["tsv"]["forgotten"]["concepts"]["mean"] == pytest.approx(0.25)
    assert found["tsv"]["forgotten"]["other things"]["mean"] == pytest.approx(0.4)
    assert "concepts" not in found["each"]["forgotten"], "it is the reference itself"


def test_the_best_merge_is_the_rival_and_no_reference_is() -> None:
    rows = cells(
        stack=cell([1.0] * COUNT), sum=cell([0.0] * COUNT), tsv=cell(HARD), ties=cell(HARD)
    )
    keys = ["stack", "sum", "tsv", "ties"]
    assert best_merge(keys, [CASE], rows) == "tsv", "the first of equals; a stack is no merge"
    found = comparisons(keys, [CASE], rows)
    assert set(found["rows"]["tsv"]["against"]) == {"sum"}
    assert found["rows"]["ties"]["against"]["best"]["mean"] == 0.0
    assert found["rows"]["sum"]["against"]["best"]["mean"] == -0.5
    titles = {key: key.upper() for key in keys}
    text = comparison_table("objects", found, titles)
    assert "better than the best merge (TSV)" in text
    assert "| SUM | – | -0.50 [" in text
    assert "| TSV | +0.50 [" in text


def test_a_failed_contestant_is_not_compared() -> None:
    rows = cells(sum=cell(HARD), tsv=CellResult(failed="why"))
    found = comparisons(["sum", "tsv"], [CASE], rows)
    assert found["best"] == "sum"
    assert found["rows"]["tsv"] == {"against": {}, "forgotten": {}}
    assert comparison_table("objects", found, {"sum": "sum", "tsv": "TSV"}) == ""


def test_without_a_detector_clip_decides() -> None:
    plain = CellResult(tuple({"text": value, "image": value} for value in [*HARD, *HARD, *HARD]))
    worse = CellResult(tuple({"text": 0.0, "image": 0.0} for _ in range(3 * COUNT)))
    found = comparisons(["sum", "tsv"], [CASE], cells(sum=worse, tsv=plain))
    assert found["best"] == "tsv"
    assert found["rows"]["tsv"]["against"]["sum"]["mean"] == 0.5
