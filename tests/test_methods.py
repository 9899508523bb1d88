"""Laws that every row of METHODS must keep, on one layer with rows made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from merging.deltas import Delta
from merging.gram import RowStatistics
from merging.methods import METHODS
from merging.solve import LayerProblem

OUT, IN, ROWS = 10, 8, 40
SIZES = [(10, 8), (4, 8), (8, 4)]  # (out, in); 4 channels as in conv_in and conv_out
NEUTRAL = 1e-12  # a ridge too small to be seen


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def change(i: int, strength: float = 1.0, out: int = OUT, width: int = IN) -> Delta:
    """LoRA i: rank 1 + i, so that ranks differ."""
    return Delta(strength * random(out, 1 + i, seed=10 + i), random(1 + i, width, seed=20 + i))


def rows(i: int, count: int, width: int = IN) -> RowStatistics:
    """The row set of LoRA i, with X̃ = X."""
    weights = torch.zeros(ROWS, count)
    weights[:, i] = 1
    statistics = RowStatistics(f"set {i}")
    x = random(ROWS, width, seed=30 + i)
    statistics.add(x, x, weights)
    return statistics


def problem(
    strengths: Sequence[float],
    order: Sequence[int] | None = None,
    missing: Sequence[int] = (),
    alpha: float = NEUTRAL,
    out: int = OUT,
    width: int = IN,
) -> LayerProblem:
    """A layer with LoRAs of these strengths, in this order, some of which lack it."""
    order = order or range(len(strengths))
    count = len(strengths)
    return LayerProblem(
        name="unet.layer",
        deltas=tuple(None if i in missing else change(i, strengths[i], out, width) for i in order),
        strengths=tuple(strengths[i] for i in order),
        weight=random(out, width, seed=1),
        rows=tuple(_replaced(rows(i, count, width), i, place) for place, i in enumerate(order)),
        alpha=alpha,
    )


def _replaced(statistics: RowStatistics, i: int, place: int) -> RowStatistics:
    """The same rows, for a LoRA that stands at another place of the list."""
    statistics.cross = {place: statistics.cross[i]}
    statistics.teacher_pairs = {(place, place): statistics.teacher_pairs[(i, i)]}
    shares = torch.zeros_like(statistics.weight_sum)
    shares[place] = statistics.rows
    statistics.weight_sum = shares
    return statistics


def merged(name: str, given: LayerProblem) -> Tensor:
    return METHODS[name].solve(given).dense()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("out", "width"), SIZES)
def test_one_lora_gives_itself_back(name: str, out: int, width: int) -> None:
    given = problem([1.0], out=out, width=width)
    assert_close(merged(name, given), change(0, out=out, width=width).dense())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [2, 3])
def test_order_does_not_matter(name: str, count: int) -> None:
    strengths = [0.7, 1.3, -0.5][:count]
    forward = merged(name, problem(strengths, alpha=1e-3))
    backward = merged(name, problem(strengths, order=range(count)[::-1], alpha=1e-3))
    assert_close(forward, backward)


@pytest.mark.parametrize("name", METHODS)
def test_answer_is_in_the_span_of_the_sources(name: str) -> None:
    answer = METHODS[name].solve(problem([1.0, 1.0, 1.0], alpha=1e-3))
    assert answer.rank == 1 + 2 + 3
    ups = torch.cat([change(i).up for i in range(3)], dim=1)
    inside = ups @ torch.linalg.lstsq(ups, answer.dense()).solution
    assert_close(inside, answer.dense())


@pytest.mark.parametrize("name", METHODS)
def test_layer_that_only_one_lora_has(name: str) -> None:
    """Sum and mean give it back; the others also keep the other LoRA's rows free of it."""
    given = problem([1.0, 1.0], missing=[1], alpha=1e-6)
    answer = merged(name, given)
    if METHODS[name].needs == "nothing":
        assert_close(answer, change(0).dense())
        return
    x, y = random(ROWS, IN, seed=30), random(ROWS, IN, seed=31)
    own = (x @ (answer - change(0).dense()).T).norm() / (x @ change(0).dense().T).norm()
    foreign = (y @ answer.T).norm() / (y @ change(0).dense().T).norm()
    assert own < 0.9 and foreign < 0.9


@pytest.mark.parametrize("name", ["sum", "iteris", "regmean"])
def test_strength_of_a_single_lora_is_its_multiplier(name: str) -> None:
    assert_close(merged(name, problem([0.25])), 0.25 * change(0).dense())
    assert_close(merged(name, problem([-2.0])), -2.0 * change(0).dense())


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
