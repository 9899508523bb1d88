"""One layer in the form of every family that peft alone writes, beside its dense change."""

from __future__ import annotations

from itertools import combinations

import torch

from tests.merging.formats.case import Case, Tensors, cayley, noise, weight
from tests.merging.formats.handmade import Sample


def oft_inputs(sample: Sample, scaled: bool) -> Case:
    """OneTrainer's: blocks of 8 inputs, and the first terms of the rotation's series."""
    wide, length = sample.shape[1], 8 * 7 // 2
    numbers = noise(wide // 8, length, size=0.05)
    skew = torch.zeros(wide // 8, 8, 8).double()
    for n, (row, column) in enumerate(combinations(range(8), 2)):
        value = numbers[:, n].double() / (length**0.5 if scaled else 1)
        skew[:, row, column], skew[:, column, row] = value, -value
    powers = [torch.linalg.matrix_power(skew, n) for n in range(5)]
    rotations = powers[0] + 2 * (powers[1] + powers[2] + powers[3]) + powers[4]
    flat = weight(sample).double().flatten(1)
    change = (flat @ torch.block_diag(*rotations).T - flat).view(sample.shape)
    more = {"oft_R.scaled_oft": torch.tensor(1)} if scaled else {}
    return Case(sample, {"oft_R.weight": numbers} | more, change, "OFT by inputs")


def boft_inputs(sample: Sample, stages: int) -> Case:
    """peft's: blocks of 4 inputs, of which the halves lie 2ⁿ halves apart in stage n."""
    flat, size = weight(sample).double().flatten(1), 4
    out, wide = flat.shape
    blocks, scales = noise(stages, wide // size, size, size), 1 + noise(out, 1)
    rotated = flat
    for stage, rotations in enumerate(cayley(-blocks / 2, 0.0)):
        reach = 2**stage * size // 2  # how far apart the halves of a block lie
        pairs = [(n // (2 * reach), n % reach // (size // 2), n) for n in range(wide)]
        order = [n for *_, n in sorted(pairs)]
        gather = torch.eye(wide).double()[order]
        rotated = rotated @ gather.T @ torch.block_diag(*rotations).T @ gather
    tensors = {"boft_R": blocks, "boft_s": scales}
    change = (scales.double() * rotated - flat).view(sample.shape)
    return Case(sample, tensors, change, "BOFT by inputs")


def hra(sample: Sample) -> Case:
    flat = weight(sample).double().flatten(1)
    columns, whole = noise(flat.shape[1], 6), torch.eye(flat.shape[1]).double()
    for u in columns.double().T:
        whole = whole - 2 * torch.outer(whole @ u, u) / (u @ u)
    change = (flat @ whole - flat).view(sample.shape)
    return Case(sample, {"hra_u": columns}, change, "HRA")


def shira(sample: Sample) -> Case:
    """Entries at random places, row by row."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(weight(sample).numel(), generator=generator)[: sum(sample.shape)]
    values, change = noise(len(order)), torch.zeros(weight(sample).numel()).double()
    for place, value in zip(order, values, strict=True):
        change[place] = value.double()
    wide = sample.shape[1]
    places = torch.stack([order // wide, order % wide]).int()
    tensors = {"shira_weight": values, "shira_indices": places}
    return Case(sample, tensors, change.view(sample.shape), "SHiRA")


def vblora(sample: Sample) -> Case:
    """Pieces of 16 numbers from a bank of 12 vectors, two of them for each; no logits."""
    rank, length, bank = 3, 16, noise(12, 16, seed=7, size=1)
    tensors: Tensors = {"vblora_vector_bank": bank}
    halves = []
    for half, size in (("A", sample.shape[1]), ("B", sample.shape[0])):
        shape = (rank, size // length) if half == "A" else (size // length, rank)
        generator = torch.Generator().manual_seed(size)
        where = torch.rand(*shape, 12, generator=generator).argsort(-1)[..., :2]
        first = noise(*shape, 1, seed=size).abs()
        tensors[f"vblora_logits_{half}_topk_indices"] = where.to(torch.uint8)
        tensors[f"vblora_logits_{half}_topk_weights"] = first
        factor = torch.zeros(rank, size).double()
        for row in range(rank):
            for piece in range(size // length):
                at = (row, piece) if half == "A" else (piece, row)
                one, two = (bank[int(number)].double() for number in where[at])
                share = first[at].double()
                start = piece * length
                factor[row, start : start + length] = share * one + (1 - share) * two
        halves.append(factor)
    down, up = halves
    return Case(sample, tensors, (up.T @ down).view(sample.shape), "VB-LoRA")


def unilora(sample: Sample) -> Case:
    """Factors of rank 3 whose entries are among 20 numbers."""
    theta, (out, wide) = noise(20, size=1), sample.shape[:2]
    generator = torch.Generator().manual_seed(0)
    tensors: Tensors = {"unilora_theta_d": theta}
    halves = []
    for half, shape in (("A", (3, wide)), ("B", (out, 3))):
        where = torch.randint(20, shape, generator=generator)
        scales = noise(*shape, seed=len(half)).abs()
        tensors |= {f"unilora_indices_{half}": where, f"unilora_scales_{half}": scales}
        rows = [[theta[int(n)].item() for n in row] for row in where]
        halves.append(torch.tensor(rows).double() * scales.double())
    return Case(sample, tensors, (halves[1] @ halves[0]).view(sample.shape), "Uni-LoRA")
