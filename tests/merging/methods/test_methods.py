"""Laws that every row of METHODS must keep, on one layer with rows made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.methods import METHODS
from merging.options import Mode
from tests.merging.linalg.problems import IN, ROWS, change, merged, problem, random

SIZES = [(10, 8), (4, 8), (8, 4)]  # (out, in); 4 channels as in conv_in and conv_out
RELATIVE = [name for name, method in METHODS.items() if method.strength.startswith("relative")]
CALIBRATED = [name for name, method in METHODS.items() if method.calibrated]
DATA_FREE = [name for name in METHODS if name not in CALIBRATED]


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("out", "width"), SIZES)
def test_one_lora_gives_itself_back(name: str, out: int, width: int, mode: Mode) -> None:
    given = replace(problem([1.0], out=out, width=width), mode=mode)
    assert_close(merged(name, given), change(0, out=out, width=width).dense())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rank", [1, 320])
def test_one_lora_of_any_rank_gives_itself_back(name: str, rank: int) -> None:
    given = problem([1.0], out=330, width=320, ranks=[rank])
    wanted = change(0, out=330, width=320, rank=rank).dense()
    assert (merged(name, given) - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [2, 3, 16])
def test_order_does_not_matter(name: str, count: int) -> None:
    strengths = ([0.7, 1.3, -0.5] + [0.2 + 0.1 * i for i in range(13)])[:count]
    forward = merged(name, problem(strengths, alpha=1e-3))
    backward = merged(name, problem(strengths, order=range(count)[::-1], alpha=1e-3))
    assert forward.isfinite().all()
    assert_close(forward, backward)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("ranks", [(1, 2, 3), (1, 320, 16)])
def test_answer_is_in_the_span_of_the_sources(name: str, ranks: tuple[int, ...]) -> None:
    out = 10 if max(ranks) < 10 else 400
    answer = METHODS[name].solve(problem([1.0] * 3, alpha=1e-3, out=out, ranks=ranks))
    assert answer.rank <= sum(ranks)
    ups = torch.cat([change(i, out=out, rank=ranks[i]).up for i in range(3)], dim=1)
    inside = ups @ torch.linalg.lstsq(ups, answer.dense()).solution
    assert answer.dense().norm() > 0
    assert_close(inside, answer.dense())


@pytest.mark.parametrize("name", METHODS)
def test_layer_that_only_one_lora_has(name: str) -> None:
    """Without rows it is given back; with them the other LoRA's rows are also kept free of it."""
    given = problem([1.0, 1.0], missing=[1], alpha=1e-6)
    answer = merged(name, given)
    if name in DATA_FREE:
        assert_close(answer, change(0).dense())
        return
    x, y = random(ROWS, IN, seed=30), random(ROWS, IN, seed=31)
    own = (x @ (answer - change(0).dense()).T).norm() / (x @ change(0).dense().T).norm()
    foreign = (y @ answer.T).norm() / (y @ change(0).dense().T).norm()
    assert own < 0.9 and foreign < 0.9


@pytest.mark.parametrize("name", DATA_FREE)
def test_strength_zero_is_as_good_as_not_given(name: str) -> None:
    assert_close(merged(name, problem([1.0, 0.0])), change(0).dense())
    assert_close(merged(name, problem([0.8, 1.0, 0.0])), merged(name, problem([0.8, 1.0])))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_comes_of_nothing(name: str) -> None:
    """All strengths 0: no change, or a sentence."""
    try:
        assert merged(name, problem([0.0, 0.0])).norm() == 0
    except MergeError as error:
        assert name == "average" and "all strengths are 0" in str(error)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_equal_and_opposite_loras_are_no_accident(name: str, sign: int) -> None:
    """A LoRA beside itself or its negative: dependent factors everywhere, and no NaN."""
    given = problem([1.0, 1.0], ranks=[3, 3], alpha=1e-3)
    twin = replace(given, deltas=(change(2), change(2, float(sign))))
    assert merged(name, twin).isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_strength_of_a_single_lora_is_its_multiplier_or_relative(name: str) -> None:
    for strength in (0.25, -2.0):
        factor = strength / abs(strength) if name in RELATIVE else strength
        assert_close(merged(name, problem([strength])), factor * change(0).dense())


# Its ranks of columns and the energies of IterIS are of the whole weight, not of the change.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("widen", "iteris")])
def test_doubling_all_strengths_does_what_the_table_says(name: str) -> None:
    once, twice = problem([1.0, 0.5, 0.7]), problem([2.0, 1.0, 1.4])
    factor = 1 if name in RELATIVE else 2
    assert_close(merged(name, twice), factor * merged(name, once))


@pytest.mark.parametrize("name", METHODS)
def test_same_request_same_bytes(name: str) -> None:
    """Without the global generator, too."""
    torch.manual_seed(0)
    one = merged(name, problem([1.0, 0.5, -0.7], alpha=1e-3))
    torch.manual_seed(1)
    assert torch.equal(one, merged(name, problem([1.0, 0.5, -0.7], alpha=1e-3)))


@pytest.mark.parametrize("name", DATA_FREE)
def test_factors_may_be_scaled_against_each_other(name: str) -> None:
    """The method sees the change, not how a file splits it into up and down."""
    given = problem([1.0, 0.5, -0.7])
    moved = tuple(Delta(100 * delta.up, delta.down / 100) for delta in given.present)
    assert_close(merged(name, replace(given, deltas=moved)), merged(name, given))


def test_sum_scales_and_average_does_not() -> None:
    once, twice = problem([1.0, 0.5]), problem([2.0, 1.0])
    assert_close(merged("sum", twice), 2 * merged("sum", once))
    assert_close(merged("average", twice), merged("average", once))


def test_sum_by_hand() -> None:
    """[[1], [0]]·[[1, 2]] + 3·[[0], [1]]·[[1, 0]] = [[1, 2], [3, 0]]."""
    one = Delta(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 2.0]]))
    two = Delta(3 * torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0, 0.0]]))
    given = LayerProblem("layer", (one, two), (1.0, 3.0))
    assert_close(merged("sum", given), torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    assert_close(merged("average", given), torch.tensor([[0.25, 0.5], [0.75, 0.0]]))
