"""Methods that weigh, cluster or solve, each against its formula written out on dense matrices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics
from merging.methods.do_merging import GAMMA, orthogonalise
from merging.methods.equalised import GAMMA as HALF_WAY
from merging.methods.lora_lego import cluster
from merging.methods.regmean_damped import OFF_DIAGONAL
from tests.merging.linalg.problems import IN, change, drifted_problem, layer_problem, merged, random

EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def problem() -> LayerProblem:
    return layer_problem([1.0, -0.6, 0.8])


def balanced_factors(problem: LayerProblem) -> list[tuple[Tensor, Tensor]]:
    """√σ on either side, largest change first."""
    factors = []
    for delta in sorted(problem.present, key=lambda delta: -delta.dense().norm().item()):
        u, s, v = torch.linalg.svd(delta.dense(), full_matrices=False)
        root = s[: delta.rank].sqrt()
        factors.append((u[:, : delta.rank] * root, root[:, None] * v[: delta.rank]))
    return factors


# --- DO-Merging -----------------------------------------------------------------------------------


def interference(actual: list[Tensor], factors: list[Tensor]) -> Tensor:
    """The objective, as the docstring has it."""
    tau = torch.cat(factors).square().sum() / sum(len(factor) for factor in factors)
    pairs = [(a, b) for i, a in enumerate(actual) for j, b in enumerate(actual) if i != j]
    moved = sum((new - old).square().sum() for new, old in zip(actual, factors, strict=True))
    return sum((a @ b.T).square().sum() for a, b in pairs) + GAMMA * tau * moved


def test_orthogonalised_factors_are_a_minimum() -> None:
    factors = [random(3, 12, seed=1), random(2, 12, seed=2), random(4, 12, seed=3)]
    actual = [factor.clone().requires_grad_() for factor in orthogonalise(factors)]
    interference(actual, factors).backward()
    start = [factor.clone().requires_grad_() for factor in factors]
    interference(start, factors).backward()
    steepest = max(factor.grad.norm() for factor in start)
    assert max(factor.grad.norm() for factor in actual) < 1e-5 * steepest
    assert interference(actual, factors) < 0.8 * interference(start, factors)


def test_orthogonal_factors_stay_as_they_are() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    factors = [3 * eye[:2], 0.1 * eye[2:5]]
    for new, old in zip(orthogonalise(factors), factors, strict=True):
        assert_close(new, old)


def test_do_merging_averages_lengths_and_directions_apart(problem: LayerProblem) -> None:
    factors = balanced_factors(problem)
    downs = orthogonalise([down for _, down in factors])
    ups = orthogonalise([up.T for up, _ in factors])
    changes = [up.T @ down for up, down in zip(ups, downs, strict=True)]
    lengths = torch.stack([matrix.norm(dim=0) for matrix in changes])
    directions = [matrix / length for matrix, length in zip(changes, lengths, strict=True)]
    expected = torch.stack(directions).mean(dim=0) * lengths.mean(dim=0)
    assert_close(merged("do-merging", problem), expected, **EXACT)


# --- LoRA-LEGO ------------------------------------------------------------------------------------


def lego_by_loops(problem: LayerProblem, count: int) -> Tensor:
    """The same clustering, unit by unit on vectors of length out + in."""
    ordered = sorted(problem.present, key=lambda delta: -delta.dense().norm().item())
    units = []
    for delta in ordered:
        for b, a in zip(delta.up.T, delta.down, strict=True):
            root = (a.norm() / b.norm()).sqrt()
            units.append(torch.cat([b * root, a / root]))
    points = [unit / unit.norm() for unit in units]
    centres = [points[0]]
    while len(centres) < count:
        centres.append(min(points, key=lambda p: max(abs(p @ c) for c in centres)))
    for _ in range(10):
        nearest = [max(range(count), key=lambda k: abs(p @ centres[k])) for p in points]
        signs = [1 if p @ centres[k] >= 0 else -1 for p, k in zip(points, nearest, strict=True)]
        groups = [[i for i, k in enumerate(nearest) if k == cluster] for cluster in range(count)]
        sums = [sum(signs[i] * points[i] for i in group) for group in groups]
        centres = [total / total.norm() for total in sums]
    answer = torch.zeros(ordered[0].dense().shape, dtype=torch.float64)
    for group in groups:
        mean = sum(signs[i] * units[i] for i in group) / len(group)
        mean = mean / mean.norm() * sum(units[i].norm() for i in group) / len(group)
        answer += torch.outer(mean[: answer.shape[0]], mean[answer.shape[0] :])
    return answer


def test_lego_equals_clustering_by_loops(problem: LayerProblem) -> None:
    assert_close(merged("lora-lego", problem), lego_by_loops(problem, count=3), **EXACT)


def test_lego_by_hand() -> None:
    """e1e1ᵀ + e2e2ᵀ and 4·e1e1ᵀ, its unit of opposite sign: one cluster of lengths √2 and 2√2 at
    e1, whose mean is (1.5 e1)(1.5 e1)ᵀ, and e2 by itself."""
    eye = torch.eye(3, dtype=torch.float64)
    one = Delta(eye[:, :2], eye[:2])
    two = Delta(-4 * eye[:, :1], -eye[:1])
    problem = LayerProblem("layer", (one, two), (1.0, 1.0), names=("one", "two"))
    expected = torch.diag(torch.tensor([2.25, 1.0, 0.0], dtype=torch.float64))
    assert_close(merged("lora-lego", problem), expected)


def test_equal_loras_are_one_to_lego() -> None:
    """Also with units in another order and of the other sign."""
    flipped = Delta(-change(2).up.flip(1), -change(2).down.flip(0))
    twins = replace(layer_problem([1.0, 1.0]), deltas=(change(2), flipped))
    assert_close(merged("lora-lego", twins), change(2).dense())


def test_membership_sums_to_one() -> None:
    points = random(20, 5, seed=1)
    membership = cluster(points / points.norm(dim=1, keepdim=True), 4)
    assert_close(membership.abs().sum(dim=1), torch.ones(len(membership), dtype=torch.float64))
    assert ((membership != 0).sum(dim=0) == 1).all()


# --- WIDEN, norms, epochs -------------------------------------------------------------------------


def test_widen_equals_columns_one_by_one(problem: LayerProblem) -> None:
    base, changes = problem.weight, [delta.dense() for delta in problem.present]
    lengths = torch.zeros(3, IN, dtype=torch.float64)
    turns = torch.zeros(3, IN, dtype=torch.float64)
    for i, delta in enumerate(changes):
        for j in range(IN):
            before, after = base[:, j], base[:, j] + delta[:, j]
            lengths[i, j] = abs(after.norm() - before.norm())
            turns[i, j] = 1 - before @ after / (before.norm() * after.norm())
    answer = torch.zeros_like(base)
    for moves in (lengths, turns):
        ranks = torch.tensor(
            [[sum(other < move for other in row) / IN for move in row] for row in moves.tolist()]
        ).double()
        for i in range(3):
            for j in range(IN):
                share = ranks[i, j].exp() / ranks[:, j].exp().sum()
                essential = ranks[i, j] > ranks[i].mean()
                answer[:, j] += 0.5 * (1.0 if essential else share) * changes[i][:, j]
    assert_close(merged("widen", problem), answer, **EXACT)


def test_equalised_scales_down_the_largest_only() -> None:
    """Norms at strength 1 are 1, 2 and 32, their median 2: factors 1, 1 and √(2/32) = 1/4."""
    unit = Delta(change(0).up / change(0).dense().norm(), change(0).down)
    deltas = tuple(Delta(size * unit.up, unit.down) for size in (1.0, 2.0, -3 * 32.0))
    problem = LayerProblem("layer", deltas, (1.0, 1.0, -3.0))
    assert HALF_WAY == 0.5
    assert_close(merged("equalised", problem), (1 + 2 - 3 * 8) * unit.dense())


def test_mwa_weighs_by_the_step() -> None:
    """Steps 100 and 300, the second at strength 2: (100 D_1 + 300 · 2 D_2) / 700."""
    problem = replace(layer_problem([1.0, 2.0]), steps=(100, 300))
    expected = (change(0).dense() + 6 * change(1).dense()) / 7
    assert_close(merged("mwa", problem), expected)
    with pytest.raises(MergeError, match=r"LoRA 2 of 2 does not say.*ss_steps"):
        merged("mwa", replace(problem, steps=(100, None)))


# --- from activations -----------------------------------------------------------------------------


def test_damped_regmean_equals_its_dense_formula() -> None:
    problem = layer_problem([1.0, 0.5])
    crosses, grams = [], []
    for delta, rows in zip(problem.present, problem.rows, strict=True):
        gram = rows.summed_gram().gram * OFF_DIAGONAL
        gram[range(IN), range(IN)] = rows.summed_gram().gram.diagonal()
        crosses.append(delta.dense() @ gram)
        grams.append(gram)
    left, right = sum(crosses), sum(grams)
    assert_close(merged("regmean-damped", problem), left @ torch.linalg.inv(right), **EXACT)
    assert not torch.allclose(merged("regmean-damped", problem), merged("regmean", problem))


def test_mix_of_show_is_least_squares_from_zero_change() -> None:
    """Three rows per LoRA in eight dimensions: of all exact answers, the smallest."""
    statistics, inputs, targets = [], [], []
    for i in range(2):
        x = random(3, IN, seed=70 + i)
        weights = torch.zeros(3, 2)
        weights[:, i] = 1
        rows = RowStatistics(f"set {i}")
        rows.add(x, x, weights)
        statistics.append(rows)
        inputs.append(x)
        targets.append(x @ change(i).dense().T)
    expected = (torch.linalg.pinv(torch.cat(inputs)) @ torch.cat(targets)).T
    for fallback in ("mean", "sum"):
        problem = replace(
            layer_problem([1.0, 1.0], alpha=1e-9), rows=tuple(statistics), fallback=fallback
        )
        assert_close(merged("mix-of-show", problem), expected, rtol=1e-5, atol=1e-6)


def test_mix_of_show_and_damped_regmean_see_no_energy_weights() -> None:
    """All row sets count the same: the base weight, which IterIS needs for energies, is unused."""
    problem, _ = drifted_problem()
    for name in ("mix-of-show", "regmean-damped"):
        assert_close(merged(name, replace(problem, weight=None)), merged(name, problem))


# --- Custom Diffusion -----------------------------------------------------------------------------


def phrase_rows(
    missing: bool = False, times: int = 1, seeds: tuple[int, int] = (70, 71)
) -> tuple[LayerProblem, list[Tensor], Tensor]:
    """Two LoRAs with three rows each, added ``times`` times, and many preserved rows."""
    sets, phrases = [], [random(3, IN, seed=seed) for seed in seeds]
    plain = random(60, IN, seed=80) * torch.logspace(0, 1, IN, dtype=torch.float64)
    for i, x in enumerate([*phrases, plain]):
        weights = torch.zeros(len(x), 2)
        weights[:, i : i + 1] = 1  # none for the third
        sets.append(RowStatistics(f"set {i}"))
        for _ in range(times if i < 2 else 1):
            sets[-1].add(x, x, weights)
    problem = layer_problem([1.0, 0.5], missing=[1] if missing else [], alpha=1e-12)
    return replace(problem, rows=tuple(sets)), phrases, plain


@pytest.mark.parametrize("missing", [False, True])
def test_custom_diffusion_equals_the_authors_formula(missing: bool) -> None:
    """W = W0 + (Vᵀ − W0 C*ᵀ)(d C*ᵀ)⁻¹ d with d = C* (C_regᵀ C_reg)⁻¹, stacked row by row."""
    problem, phrases, plain = phrase_rows(missing)
    stacked = torch.cat(phrases)
    changes = [torch.zeros(10, IN).double() if d is None else d.dense() for d in problem.deltas]
    outputs = torch.cat([x @ change.T for x, change in zip(phrases, changes, strict=True)])
    d = stacked @ torch.linalg.inv(plain.T @ plain)
    expected = outputs.T @ torch.linalg.inv(d @ stacked.T) @ d
    answer = merged("custom-diffusion", problem)
    assert_close(answer, expected, rtol=1e-7, atol=1e-8)
    assert_close(stacked @ answer.T, outputs, rtol=1e-7, atol=1e-8)


def test_a_phrase_in_two_prompts_is_one_constraint() -> None:
    once, twice = (merged("custom-diffusion", phrase_rows(times=times)[0]) for times in (1, 2))
    assert_close(twice, once)


def test_phrases_that_contradict_each_other_get_the_mean() -> None:
    """Equal rows with two different targets."""
    problem, (x, _), _ = phrase_rows(seeds=(70, 70))
    answer = merged("custom-diffusion", problem)
    mean = sum(delta.dense() for delta in problem.present) / 2
    assert_close(x @ answer.T, x @ mean.T, rtol=1e-7, atol=1e-8)
