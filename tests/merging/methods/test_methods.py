"""Properties of every method in METHODS, on one layer with random rows."""

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
from tests.merging.linalg.problems import IN, ROWS, change, layer_problem, merged, random

SIZES = [(10, 8), (4, 8), (8, 4)]  # (out, in); 4 channels as in conv_in and conv_out
RELATIVE = [name for name, method in METHODS.items() if method.strength.startswith("relative")]
CALIBRATED = [name for name, method in METHODS.items() if method.calibrated]
DATA_FREE = [name for name in METHODS if name not in CALIBRATED]


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("out", "width"), SIZES)
def test_one_lora_gives_itself_back(name: str, out: int, width: int, mode: Mode) -> None:
    problem = replace(layer_problem([1.0], out=out, width=width), mode=mode)
    assert_close(merged(name, problem), change(0, out=out, width=width).dense())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rank", [1, 320])
def test_one_lora_of_any_rank_gives_itself_back(name: str, rank: int) -> None:
    problem = layer_problem([1.0], out=330, width=320, ranks=[rank])
    expected = change(0, out=330, width=320, rank=rank).dense()
    assert (merged(name, problem) - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [2, 3, 16])
def test_order_does_not_matter(name: str, count: int) -> None:
    strengths = ([0.7, 1.3, -0.5] + [0.2 + 0.1 * i for i in range(13)])[:count]
    forward = merged(name, layer_problem(strengths, alpha=1e-3))
    backward = merged(name, layer_problem(strengths, order=range(count)[::-1], alpha=1e-3))
    assert forward.isfinite().all()
    assert_close(forward, backward)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("ranks", [(1, 2, 3), (1, 320, 16)])
def test_answer_is_in_the_span_of_the_sources(name: str, ranks: tuple[int, ...]) -> None:
    out = 10 if max(ranks) < 10 else 400
    answer = METHODS[name].solve(layer_problem([1.0] * 3, alpha=1e-3, out=out, ranks=ranks))
    assert answer.rank <= sum(ranks)
    ups = torch.cat([change(i, out=out, rank=ranks[i]).up for i in range(3)], dim=1)
    inside = ups @ torch.linalg.lstsq(ups, answer.dense()).solution
    assert answer.dense().norm() > 0
    assert_close(inside, answer.dense())


@pytest.mark.parametrize("name", METHODS)
def test_layer_that_only_one_lora_has(name: str) -> None:
    """Without rows it stays as it is; with rows, the other LoRA's rows keep it smaller."""
    problem = layer_problem([1.0, 1.0], missing=[1], alpha=1e-6)
    answer = merged(name, problem)
    if name in DATA_FREE:
        assert_close(answer, change(0).dense())
        return
    x, y = random(ROWS, IN, seed=30), random(ROWS, IN, seed=31)
    error = (x @ (answer - change(0).dense()).T).norm() / (x @ change(0).dense().T).norm()
    leak = (y @ answer.T).norm() / (y @ change(0).dense().T).norm()
    assert error < 0.9 and leak < 0.9


@pytest.mark.parametrize("name", DATA_FREE)
def test_strength_zero_leaves_a_lora_out(name: str) -> None:
    assert_close(merged(name, layer_problem([1.0, 0.0])), change(0).dense())
    assert_close(
        merged(name, layer_problem([0.8, 1.0, 0.0])), merged(name, layer_problem([0.8, 1.0]))
    )


@pytest.mark.parametrize("name", METHODS)
def test_strengths_of_zero_change_nothing(name: str) -> None:
    """No change, or MergeError from the average."""
    try:
        assert merged(name, layer_problem([0.0, 0.0])).norm() == 0
    except MergeError as error:
        assert name == "average" and "all strengths are 0" in str(error)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_equal_and_opposite_loras_give_finite_values(name: str, sign: int) -> None:
    """A LoRA merged with itself or its negative: all factors are dependent."""
    problem = layer_problem([1.0, 1.0], ranks=[3, 3], alpha=1e-3)
    twin = replace(problem, deltas=(change(2), change(2, float(sign))))
    assert merged(name, twin).isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_strength_of_a_single_lora_is_its_multiplier_or_relative(name: str) -> None:
    for strength in (0.25, -2.0):
        factor = strength / abs(strength) if name in RELATIVE else strength
        assert_close(merged(name, layer_problem([strength])), factor * change(0).dense())


# Its ranks of columns and the energies of IterIS are of the whole weight, not of the change.
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("widen", "iteris")])
def test_doubling_all_strengths_does_what_the_table_says(name: str) -> None:
    once, twice = layer_problem([1.0, 0.5, 0.7]), layer_problem([2.0, 1.0, 1.4])
    factor = 1 if name in RELATIVE else 2
    assert_close(merged(name, twice), factor * merged(name, once))


@pytest.mark.parametrize("name", METHODS)
def test_same_request_same_bytes(name: str) -> None:
    """Whatever the state of the global random generator."""
    torch.manual_seed(0)
    one = merged(name, layer_problem([1.0, 0.5, -0.7], alpha=1e-3))
    torch.manual_seed(1)
    assert torch.equal(one, merged(name, layer_problem([1.0, 0.5, -0.7], alpha=1e-3)))


@pytest.mark.parametrize("name", DATA_FREE)
def test_factors_may_be_scaled_against_each_other(name: str) -> None:
    """A method depends on the change, not on how a file splits it into up and down."""
    problem = layer_problem([1.0, 0.5, -0.7])
    rescaled = tuple(Delta(100 * delta.up, delta.down / 100) for delta in problem.present)
    assert_close(merged(name, replace(problem, deltas=rescaled)), merged(name, problem))


def test_sum_scales_and_average_does_not() -> None:
    once, twice = layer_problem([1.0, 0.5]), layer_problem([2.0, 1.0])
    assert_close(merged("sum", twice), 2 * merged("sum", once))
    assert_close(merged("average", twice), merged("average", once))


def test_sum_by_hand() -> None:
    """[[1], [0]]·[[1, 2]] + 3·[[0], [1]]·[[1, 0]] = [[1, 2], [3, 0]]."""
    one = Delta(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 2.0]]))
    two = Delta(3 * torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0, 0.0]]))
    problem = LayerProblem("layer", (one, two), (1.0, 3.0))
    assert_close(merged("sum", problem), torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    assert_close(merged("average", problem), torch.tensor([[0.25, 0.5], [0.75, 0.0]]))
