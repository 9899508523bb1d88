"""The benchmark of ways to combine concepts: its cases, scores, cells and tables."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from merging.bundled import LORAS, shelf
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.engine import merge
from merging.errors import MergeError
from merging.evaluation import contest as benchmark
from merging.evaluation.base_quality import one_prompt
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cases import Case, Concept, picture_tasks, select_cases
from merging.evaluation.cells import Arena, CellResult, cell_name, compute_cell
from merging.evaluation.contact_sheets import MARGIN, TILE, sheet, strip
from merging.evaluation.contestants import CONTESTANTS, QUICK
from merging.evaluation.detector import load_detector
from merging.evaluation.intervals import interval
from merging.evaluation.layer_objective import layer_objective
from merging.evaluation.metrics import Scorers, score_pictures
from merging.evaluation.peft_merges import merge_with_peft
from merging.evaluation.variants import VARIANTS
from merging.request import MergeRequest, Source
from merging.runtime.progress import silent
from merging.scoring.clip import load_clip
from tests.conftest import SINGLE

CAT = Concept(LORAS / "sks-cat.safetensors", "sks cat")
PIZZA = Concept(LORAS / "vxz-pizza.safetensors", "vxz pizza")
INK = Concept(LORAS / "sks-cat.safetensors", "zqx style")


def case(*concepts: Concept, count: int = 2) -> Case:
    return Case(
        "some", "objects", "tuning", concepts, picture_tasks(concepts, ["dog", "house"], count)
    )


def test_every_kind_is_asked_for_equally_often_and_in_both_orders() -> None:
    found = picture_tasks((CAT, PIZZA), ["dog", "house", "tree"], 8)
    assert [task.kind for task in found] == ["together"] * 8 + ["alone"] * 8 + ["prior"] * 8
    orders = [task.named for task in found[:8]]
    assert orders.count(("sks cat", "vxz pizza")) == orders.count(("vxz pizza", "sks cat")) == 4
    assert len({task.prompt for task in found[:8]}) == 8
    assert [task.seed for task in found[:8]] == list(range(8))


def test_the_order_of_the_concepts_changes_no_prior_picture() -> None:
    things = ["dog", "house", "tree", "car"]
    prior = [picture_tasks(pair, things, 4)[8:] for pair in ((CAT, PIZZA), (PIZZA, CAT))]
    assert prior[0] == prior[1]


def test_a_style_is_asked_for_as_a_style() -> None:
    found = picture_tasks((CAT, INK), ["dog"], 2)
    assert [task.prompt for task in found[:2]] == [
        "a photo of a sks cat in zqx style",
        "in zqx style, a photo of a sks cat",
    ]
    assert found[3].prompt == "a photo of a dog in zqx style"
    with pytest.raises(MergeError, match="not both of them styles"):
        picture_tasks((INK, INK), ["dog"], 2)


def test_a_case_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match=r"no file .*gone\.safetensors"):
        case(CAT, Concept(tmp_path / "gone.safetensors", "vxz pizza"))
    with pytest.raises(MergeError, match=r"no file .*gone\.png"):
        case(CAT, Concept(PIZZA.file, "vxz pizza", references=(tmp_path / "gone.png",)))
    with pytest.raises(MergeError, match="no trigger phrase"):
        case(CAT, Concept(PIZZA.file, " "))
    with pytest.raises(MergeError, match="No case is called other; there are some"):
        select_cases([case(CAT, PIZZA)], ["other"])


def test_an_interval_holds_its_mean_and_is_the_same_again() -> None:
    values = [1.0] * 30 + [0.0] * 10
    found = interval([values])
    assert found.mean == 0.75
    assert 0.55 < found.low < 0.75 < found.high < 0.95
    assert interval([values]) == found
    assert interval([[1.0], [0.0, 0.0]]).mean == 0.5, "cases count alike, whatever their size"
    assert interval([[1.0, 1.0]]).low == interval([[1.0, 1.0]]).high == 1.0
    with pytest.raises(ValueError, match="no pictures"):
        interval([[]])


def test_peft_cat_is_the_sum_and_its_linear_rules_refuse_other_ranks(base: Base) -> None:
    adapters = [entry.adapter(base.table) for entry in shelf()[:4]]
    cat = merge_with_peft(adapters[:2], "cat")
    for name, layer in cat.layers.items():
        expected = sum(adapter.layers[name].delta() for adapter in adapters[:2])
        torch.testing.assert_close(layer.delta(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(MergeError, match=r"peft refuses: .*same r"):
        merge_with_peft(adapters[2:], "ties")


def test_peft_draws_by_a_seed_and_leaves_the_global_generator_alone(base: Base) -> None:
    adapters = [entry.adapter(base.table) for entry in shelf()[:2]]
    before = torch.random.get_rng_state()
    first, again, other = (merge_with_peft(adapters, "dare_linear", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = next(iter(first.layers))
    assert torch.equal(first.layers[name].delta(), again.layers[name].delta())
    assert not torch.equal(first.layers[name].delta(), other.layers[name].delta())


def test_the_shelf_is_cases_by_split_and_every_set_size_it_has() -> None:
    cases = shelf_cases("all", 2, load_detector().things)
    assert {case.split for case in cases} <= {"tuning", "test"}
    assert len({case.name for case in cases}) == len(cases)
    assert {"cat-pizza", "cat-cake", "pizza-zqx", "tuning-6-1"} <= {case.name for case in cases}
    met = [f"{case.split}: {case.kind}" for case in cases if case.kind.endswith(" crossed")]
    assert met == ["tuning: objects crossed"] * 12 + ["tuning: object + style crossed"] * 5
    for case in cases:
        about = {trigger.rsplit(" ", 1)[-1] for trigger in case.triggers}
        assert not about & {task.named[0] for task in case.tasks if task.kind == "prior"}


def test_the_quick_contest_is_among_contestants() -> None:
    assert set(QUICK) <= set(CONTESTANTS)


def test_every_variant_is_a_request_of_its_own(base: Base) -> None:
    assert not set(VARIANTS) & set(CONTESTANTS)
    sources = tuple(Source(entry.adapter(base.table)) for entry in shelf()[:2])
    requests = [MergeRequest(sources, **(each.options or {})) for each in VARIANTS.values()]
    usual = MergeRequest(sources, teacher="composed", mode="delta")
    assert all(request != usual for request in requests)


@pytest.mark.slow
def test_the_layer_objective_is_none_for_a_lora_itself_and_all_for_nothing(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.evaluation.layer_objective.SAMPLES", 4)
    adapters = [entry.adapter(base.table) for entry in shelf()[:2]]
    name, layer = next(iter(adapters[0].layers.items()))
    silenced = replace(adapters[0], layers={name: replace(layer, up=0 * layer.up)})
    measured = partial(layer_objective, base, progress=silent)
    assert measured(adapters[:1], adapters[0]) < 1e-6
    assert measured(adapters[:1], silenced) == pytest.approx(1.0)
    summed = merge(MergeRequest(tuple(map(Source, adapters)), method="sum")).adapter
    iteris = merge(
        MergeRequest(tuple(map(Source, adapters)), samples=8, seed=1, **SINGLE), activations(base)
    ).adapter
    assert measured(adapters, iteris) < 0.5 * measured(adapters, summed)


@pytest.mark.slow
def test_scores_tell_a_concept_that_is_there_from_one_that_leaks(
    base: Base, scorers: Scorers
) -> None:
    cat = [(shelf()[0].adapter(base.table), 1.0)]
    cats, plain = (
        render(base, [one_prompt("sks cat")], [0], adapters=cat, steps=10),
        render(base, [one_prompt("dog")], [0], steps=10),
    )
    pair = case(CAT, PIZZA)
    images = [*cats, *plain, *cats, *plain, *plain, *cats]
    nothing = {name: torch.zeros(1, 64) for name in pair.triggers}
    rows = score_pictures(scorers, pair, images, nothing)
    assert rows[2] | {"text": 0} == {"text": 0, "image": 0.0, "alone": 1.0, "leak": 0.0}
    assert rows[3]["alone"] == 0.0
    assert rows[5]["leak"] == 1.0, "a cat in its look where another thing was asked for"
    assert rows[4]["leak"] == 0.0


@pytest.mark.slow
def test_a_cell_is_computed_once(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = case(CAT, PIZZA, count=1)
    first = compute_cell(arena, "each", pair, silent)
    assert len(first.scores) == len(pair.tasks)
    assert not first.failed
    monkeypatch.setattr("merging.evaluation.cells.render", None)
    assert compute_cell(arena, "each", pair, silent) == first


def test_a_cell_is_another_for_other_pictures(arena: Arena) -> None:
    names = {
        cell_name(arena, "sum", case(CAT, PIZZA)),
        cell_name(arena, "average", case(CAT, PIZZA)),
        cell_name(arena, "sum", case(PIZZA, CAT)),
        cell_name(arena, "sum", case(CAT, PIZZA, count=4)),
        cell_name(Arena(arena.base, arena.scorers, arena.folder, steps=3), "sum", case(CAT, PIZZA)),
        cell_name(
            Arena(arena.base, Scorers(arena.scorers.clip), arena.folder, 1), "sum", case(CAT, PIZZA)
        ),
    }
    assert len(names) == 6


def test_a_judge_of_other_weights_is_another_judge(scorers: Scorers) -> None:
    assert scorers.fingerprint == Scorers(load_clip(), load_detector()).fingerprint
    other = load_detector()
    with torch.no_grad():
        other.head.bias += 1
    assert Scorers(scorers.clip, other).fingerprint != scorers.fingerprint


@pytest.mark.slow
def test_a_run_reports_means_failures_and_sheets(arena: Arena) -> None:
    dog, car = (Concept(LORAS / entry.file, entry.trigger) for entry in shelf()[2:4])
    cases = [
        case(CAT, PIZZA),  # two pictures of a kind, whose mean counts
        Case("other", "ranks", "test", (dog, car), picture_tasks((dog, car), ["cat"], 1)),
    ]
    figures = benchmark.run(arena, ["base", "each", "peft-ties"], cases, silent)
    text = benchmark.table(figures)
    assert "peft ties failed on other: peft refuses" in text
    assert "**all cases**" in text
    assert set(figures["groups"]) == {"objects", "ranks", "all cases"}
    assert (arena.folder / "results.md").read_text(encoding="utf-8") == text + "\n"
    for name in ("some", "other"):
        assert Image.open(arena.folder / f"{name}.png").width > MARGIN
    again = benchmark.run(arena, ["base", "each", "peft-ties"], cases, silent)
    assert again == figures


def test_failed_cases_are_left_out_of_means() -> None:
    pair = [case(CAT, PIZZA), Case("other", "objects", "test", (CAT, PIZZA), ())]
    cells = {
        ("sum", "some"): CellResult(({"present": 1.0},)),
        ("sum", "other"): CellResult(failed="why"),
    }
    found = benchmark.standing("sum", pair, cells)
    assert found.metrics["present"].mean == 1.0
    assert found.failed == {"other": "why"}


def test_an_unknown_contestant_is_refused_before_any_work(arena: Arena) -> None:
    with pytest.raises(MergeError, match="No contestant is called best"):
        benchmark.run(arena, ["best"], [case(CAT, PIZZA)], silent)
    with pytest.raises(MergeError, match="No case matches"):
        benchmark.run(arena, ["sum"], [], silent)
    assert not list(arena.folder.iterdir())


def test_a_sheet_has_a_row_for_each_strip() -> None:
    row = strip([Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")])
    assert row.getpixel((TILE // 2, TILE // 2)) == (255, 0, 0)
    picture = sheet("title", [("one", row), ("a name that is far too long for one line", row)])
    assert picture.width == MARGIN + row.width + 4
    assert picture.height > 2 * TILE
