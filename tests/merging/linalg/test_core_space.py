"""Core space, and every method in it against a dense version of its formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import active_loras, core_space, polar
from merging.linalg.delta import Delta
from merging.methods import METHODS
from merging.methods.dare import KEEP
from merging.methods.dc_merge import RHO, smooth
from merging.methods.opcm import project_out
from merging.methods.ties import DENSITY, sign_elected_mean, trim
from tests.merging.linalg.problems import change, layer_problem, merged, random

EXACT = {"rtol": 1e-10, "atol": 1e-10}
DRAWS = 1500  # enough for the mean noise to be known to a few per cent
Triple = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def problem() -> LayerProblem:
    """Ranks 1, 2 and 3 in a layer of 10 × 8, one of them negative."""
    return layer_problem([1.0, -0.6, 0.8])


def dense(problem: LayerProblem) -> list[Tensor]:
    """Δ_i, largest first, as the sequential method takes them."""
    return sorted((delta.dense() for delta in problem.present), key=lambda d: -d.norm().item())


def svd(matrix: Tensor, rank: int | None = None) -> Triple:
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    rank = rank or int((s > 1e-10 * s[0]).sum())
    return u[:, :rank], s[:rank], v[:rank]


def bases(changes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """U (out, k) and V (k, in) of the paper, from dense matrices."""
    triples = [svd(delta) for delta in changes]
    u, _, _ = svd(torch.cat([u * s.sqrt() for u, s, _ in triples], dim=1))
    _, _, v = svd(torch.cat([s.sqrt()[:, None] * v for _, s, v in triples]))
    return u, v


def inverse_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors / values.sqrt() @ vectors.T


def by_entry(matrices: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Trim, elect and average, entry by entry, with no tensor operation but abs."""
    edges = [
        sorted(m.abs().flatten().tolist(), reverse=True)[k - 1]
        for m, k in zip(matrices, counts, strict=True)
    ]
    answer = torch.zeros_like(matrices[0])
    for row in range(answer.shape[0]):
        for column in range(answer.shape[1]):
            entries = [m[row, column].item() for m in matrices]
            values = [v for v, edge in zip(entries, edges, strict=True) if abs(v) >= edge]
            agreeing = [v for v in values if v * sum(values) > 0]
            answer[row, column] = sum(agreeing) / max(1, len(agreeing))
    return answer


def ties(changes: Sequence[Tensor]) -> Tensor:
    u, v = bases(changes)
    cores = [u.T @ delta @ v.T for delta in changes]
    return u @ by_entry(cores, [math.ceil(DENSITY * c.numel()) for c in cores]) @ v


def knots(changes: Sequence[Tensor]) -> Tensor:
    u, s, v = svd(torch.cat(list(changes), dim=1))
    aligned = (s[:, None] * v).split(changes[0].shape[1], dim=1)
    return u @ by_entry(aligned, [math.ceil(DENSITY * z.numel()) for z in aligned])


def tsv(changes: Sequence[Tensor]) -> Tensor:
    """Polar factors by the inverse root of the Gram matrix."""
    triples = [svd(delta) for delta in changes]
    u = torch.cat([u for u, _, _ in triples], dim=1)
    v = torch.cat([v for _, _, v in triples])
    s = torch.cat([s for _, s, _ in triples])
    return u @ inverse_root(u.T @ u) @ s.diag() @ inverse_root(v @ v.T) @ v


def iso_c(changes: Sequence[Tensor]) -> Tensor:
    u, s, v = svd(torch.stack(list(changes)).sum(dim=0))
    return s.mean() * u @ v


def dc_merge(changes: Sequence[Tensor]) -> Tensor:
    triples = [svd(delta) for delta in changes]
    u = torch.cat([u for u, _, _ in triples], dim=1)
    v = torch.cat([v for _, _, v in triples])
    u, v = u @ inverse_root(u.T @ u), inverse_root(v @ v.T) @ v
    ranks = [len(s) for _, s, _ in triples]
    cores = [u.T @ (a * smooth(s) @ b) @ v.T for a, s, b in triples]
    answer = by_entry(cores, ranks)
    owners = torch.repeat_interleave(torch.tensor(range(len(ranks))), torch.tensor(ranks))
    return u @ torch.where(owners[:, None] == owners, answer, 0.0) @ v


def opcm(changes: Sequence[Tensor]) -> Tensor:
    """The paper's sequence with complete orthogonal bases of the whole space."""
    total = changes[0]
    for delta in changes[1:]:
        u, s, vh = torch.linalg.svd(total, full_matrices=True)
        rank = int((s > 1e-10 * s[0]).sum())
        q = next(k for k in range(1, rank + 1) if s[:k].sum() > 0.5 * s.sum())
        p = u.T @ delta @ vh.T
        p[:q, :q] = 0
        p[range(rank), range(rank)] = 0
        total = total + u @ p @ vh
    return total * torch.stack([delta.norm() for delta in changes]).mean() / total.norm()


ORACLES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "ties": ties,
    "knots": knots,
    "tsv": tsv,
    "iso-c": iso_c,
    "dc-merge": dc_merge,
    "opcm": opcm,
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("ranks", [(1, 2), (1, 2, 3), (3, 3, 2), (4, 4)])
def test_rule_equals_its_dense_formula(name: str, ranks: tuple[int, ...]) -> None:
    problem = layer_problem([1.0, -0.6, 0.8][: len(ranks)], ranks=ranks)
    assert_close(merged(name, problem), ORACLES[name](dense(problem)), **EXACT)


@pytest.mark.parametrize("out", [10, 4])
def test_cores_hold_every_lora_without_loss(out: int) -> None:
    parts = active_loras(layer_problem([1.0, -0.6, 0.8, 2.0], out=out))
    space = core_space(parts)
    assert space.left.shape == (out, out) and space.right.shape == (8, 8)
    assert_close(space.left.T @ space.left, torch.eye(out, dtype=torch.float64))
    for part, core in zip(parts, space.cores, strict=True):
        assert_close(space.expand_core(core).dense(), part.delta.dense(), **EXACT)


def test_dependent_loras_need_no_more_room_than_one() -> None:
    twin = replace(layer_problem([1.0, 1.0]), deltas=(change(2), change(2, strength=0.5)))
    space = core_space(active_loras(twin))
    assert space.left.shape[1] == space.right.shape[0] == 3


def test_parts_come_by_size_then_by_name() -> None:
    three = (change(1), change(1, strength=2.0), change(1))
    names = ("b", "c", "a")
    problem = LayerProblem("layer", three, (1.0, 2.0, 1.0), names=names)
    assert [part.name for part in active_loras(problem)] == ["c", "a", "b"]


def test_trim_and_elect_by_hand() -> None:
    """Of [[4, −3], [2, 1]] half is [[4, −3], [0, 0]]; beside [[−6, −1], [0, 2]] the first entry
    goes to −6, the second to the mean of −3 and −1, the fourth to the only one there is."""
    matrix = torch.tensor([[4.0, -3.0], [2.0, 1.0]])
    half = trim(matrix, 0.5)
    assert_close(half, torch.tensor([[4.0, -3.0], [0.0, 0.0]]))
    other = torch.tensor([[-6.0, -1.0], [0.0, 2.0]])
    assert_close(sign_elected_mean([half, other]), torch.tensor([[-6.0, -2.0], [0.0, 2.0]]))
    assert_close(sign_elected_mean([matrix, -matrix]), torch.zeros(2, 2))
    assert trim(torch.ones(8, 8), 1e-9).sum() == 64  # equal entries are kept together


def test_tsv_shares_out_a_space_that_is_too_small() -> None:
    """Three LoRAs of rank 2 on 4 channels: 2 · 4 // 6 = 1 direction each."""
    problem = layer_problem([1.0, 0.5, 0.7], out=4, ranks=[2, 2, 2])
    strongest = [u * s @ v for u, s, v in (svd(delta, rank=1) for delta in dense(problem))]
    assert_close(merged("tsv", problem), tsv(strongest), **EXACT)


def test_dare_drops_entries_and_enlarges_the_rest(problem: LayerProblem) -> None:
    """Every entry is a sum over the LoRAs that kept it, divided by the share kept."""
    space = core_space(active_loras(problem))
    actual = space.left.T @ merged("dare", problem) @ space.right.T
    cores = torch.stack(space.cores)
    choices = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=cores.dtype)] * 3)
    possible = torch.einsum("cn,nij->cij", choices, cores) / KEEP
    assert (possible - actual).abs().min(dim=0).values.max() < 1e-10


@pytest.mark.slow
def test_dare_keeps_the_sum_on_average(problem: LayerProblem) -> None:
    draws = torch.stack([merged("dare", replace(problem, seed=seed)) for seed in range(DRAWS)])
    total = merged("sum", problem)
    spread = draws.std(dim=0) / DRAWS**0.5
    assert ((draws.mean(dim=0) - total).abs() < 5 * spread).all()
    space = core_space(active_loras(problem))
    noise = (draws - total).square().sum(dim=(1, 2)).mean()
    expected = (1 - KEEP) / KEEP * torch.stack(space.cores).square().sum()
    assert noise.item() == pytest.approx(expected.item(), rel=0.1)


def test_dare_draws_by_seed_layer_and_lora(problem: LayerProblem) -> None:
    first = merged("dare", problem)
    for other in (
        replace(problem, seed=1),
        replace(problem, name="unet.other"),
        replace(problem, names=("x", "y", "z")),
    ):
        assert not torch.allclose(merged("dare", other), first)


def test_smoothing_keeps_the_sum_and_bounds_the_ratio() -> None:
    """(100, 10, 4): a line from 5c to c with sum 114 is (5, 3, 1) · 114 / 9."""
    sizes = torch.tensor([100.0, 10.0, 4.0], dtype=torch.float64)
    line = torch.tensor([RHO, 3.0, 1.0], dtype=torch.float64)
    assert_close(smooth(sizes), line * 114 / 9)
    gentle = torch.tensor([6.0, 3.0], dtype=torch.float64)
    assert_close(smooth(gentle), gentle)


def test_projection_by_hand() -> None:
    """diag(3, 1, 0) merged so far: q = 1, and the mask has the diagonal up to rank 2."""
    merged_core = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    core = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(3, 3)
    expected = torch.tensor([[0.0, 2, 3], [4, 0, 6], [7, 8, 9]], dtype=torch.float64)
    assert_close(project_out(core, merged_core), expected)


def test_polar_is_the_nearest_orthonormal_matrix() -> None:
    matrix = random(6, 3, seed=1)
    assert_close(polar(matrix), matrix @ inverse_root(matrix.T @ matrix))
    assert_close(polar(torch.cat([matrix, matrix], dim=1))[:, :3] * 2**0.5, polar(matrix))


def test_opcm_has_the_mean_norm_and_iso_c_one_singular_value(problem: LayerProblem) -> None:
    sizes = [delta.norm() for delta in problem.present]
    assert METHODS["opcm"].solve(problem).norm() == pytest.approx(sum(sizes) / 3)
    _, flat, _ = svd(merged("iso-c", problem))
    assert_close(flat, flat.mean().expand(6))


def test_norm_is_that_of_the_dense_matrix() -> None:
    delta = Delta(random(9, 4, seed=1), random(4, 7, seed=2))
    assert delta.norm() == pytest.approx(delta.dense().norm().item())
