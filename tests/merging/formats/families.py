"""One layer in every family's own form, beside the dense change that its definition gives.

The tensors are what the trainers store; the changes are worked out here, entry by entry or block by
block, and by nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.merging.formats.case import Case, Tensors, cayley, noise, weight
from tests.merging.formats.handmade import CONV, FF, PROJ_IN, Q_PROJ, TO_K, Sample
from tests.merging.formats.peft_families import (
    boft_inputs,
    hra,
    oft_inputs,
    shira,
    unilora,
    vblora,
)


def tucker_locon() -> Case:
    down, up, mid = noise(4, 64, 1, 1), noise(64, 4, 1, 1), noise(4, 4, 3, 3)
    # what three convolutions make of single pixels is the kernel of them all
    pixels = torch.zeros(64, 64, 5, 5).double()
    pixels[range(64), range(64), 2, 2] = 1
    hidden = F.conv2d(F.conv2d(pixels, down.double()), mid.double(), padding=1)
    kernel = F.conv2d(hidden, up.double())[:, :, 1:4, 1:4].flip(2, 3).transpose(0, 1)
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid}
    return Case(CONV, tensors | {"alpha": torch.tensor(2.0)}, 2 / 4 * kernel, "LoRA")


def loha(sample: Sample, rank: int) -> Case:
    wide = weight(sample).flatten(1).shape[1]
    ones = (noise(sample.shape[0], rank, seed=1, size=1), noise(rank, wide, seed=2))
    twos = (noise(sample.shape[0], rank, seed=3, size=1), noise(rank, wide, seed=4))
    change = torch.stack([a.double() @ b.double() for a, b in (ones, twos)]).prod(0)
    tensors = dict(
        zip(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ones + twos, strict=True)
    )
    tensors["alpha"] = torch.tensor(3, dtype=torch.float16)
    return Case(sample, tensors, 3 / rank * change.view(sample.shape), "LoHa")


def tucker_loha() -> Case:
    tensors = {"alpha": torch.tensor(1.5)}
    halves = []
    for n in (1, 2):
        core, outer, inner = noise(3, 3, 3, 3, seed=n), noise(3, 64, seed=n), noise(3, 64, seed=-n)
        tensors |= {f"hada_t{n}": core, f"hada_w{n}_a": outer, f"hada_w{n}_b": inner}
        half = torch.zeros(CONV.shape).double()
        for p in range(3):
            for q in range(3):
                sides = outer[p].double()[:, None] * inner[q].double()
                half += sides[..., None, None] * core[p, q].double()
        halves.append(half)
    return Case(CONV, tensors, 1.5 / 3 * halves[0] * halves[1], "LoHa")


def kronecker(one: Tensor, two: Tensor) -> Tensor:
    """Block (i, j) of the result is one[i, j] · two."""
    rows = [torch.cat([entry * two for entry in row], dim=1) for row in one.double()]
    return torch.cat(rows, dim=0)


def lokr(sample: Sample, form: str) -> Case:
    """w1 (8, 8) and w2 for the rest, each whole or in factors; ``tucker`` for a kernel."""
    rows, columns = sample.shape[0] // 8, sample.shape[1] // 8
    kernel = sample.shape[2:]
    tensors: Tensors = {"alpha": torch.tensor(2.0)}
    if form in ("whole", "small whole", "tucker"):
        tensors["lokr_w1"] = one = noise(8, 8, size=1)
    else:
        tensors |= {"lokr_w1_a": noise(8, 2, seed=1), "lokr_w1_b": noise(2, 8, seed=2)}
        one = tensors["lokr_w1_a"].double() @ tensors["lokr_w1_b"].double()
    if form == "whole":
        tensors["lokr_w2"] = two = noise(rows, columns, *kernel)
    elif form == "tucker":
        core, first, second = noise(3, 3, *kernel), noise(3, rows), noise(3, columns, seed=5)
        tensors |= {"lokr_t2": core, "lokr_w2_a": first, "lokr_w2_b": second}
        sides = first.double().T[:, None, :, None] * second.double().T[None, :, None, :]
        two = torch.tensordot(sides, core.double(), dims=2)
    else:
        wide = weight(sample)[0].numel() // 8
        tensors |= {"lokr_w2_a": noise(rows, 3, seed=3), "lokr_w2_b": noise(3, wide, seed=4)}
        two = tensors["lokr_w2_a"].double() @ tensors["lokr_w2_b"].double()
    rank = {"whole": 2.0, "both": 2.0}.get(form, 3.0)  # both whole: alpha counts for nothing
    change = 2.0 / rank * kronecker(one, two.double().view(rows, columns, *kernel))
    return Case(sample, tensors, change, "LoKr")


def full(sample: Sample) -> Case:
    change = noise(*sample.shape)
    return Case(sample, {"diff": change}, change.double(), "full difference")


def glora(sample: Sample, old: bool) -> Case:
    out, wide = sample.shape[:2]
    ones = (1,) * len(sample.shape[2:])
    a1, a2 = noise(wide, 4, *ones, seed=1), noise(4, wide, *ones, seed=2)
    b1, b2 = noise(out, 4, *ones, seed=3), noise(4, *sample.shape[1:], seed=4)
    base = weight(sample).double().flatten(2) if ones else weight(sample).double()[..., None]
    mixing = a1.double().flatten(1) @ a2.double().flatten(1)
    parts = [
        base[..., n] @ mixing + b1.double().flatten(1) @ b2.double().reshape(4, wide, -1)[..., n]
        for n in range(base.shape[-1])
    ]
    names = ("a2", "a1", "b2", "b1") if old else ("a1", "a2", "b1", "b2")
    tensors = {f"{name}.weight": value for name, value in zip(names, (a1, a2, b1, b2), strict=True)}
    change = 8 / 4 * torch.stack(parts, dim=-1).view(sample.shape)
    return Case(sample, tensors | {"alpha": torch.tensor(8.0)}, change, "GLoRA")


def ia3(sample: Sample, on_input: bool) -> Case:
    numbers = noise(sample.shape[1] if on_input else sample.shape[0])
    shaped = numbers.view(1, -1, *(1,) * len(sample.shape[2:])) if sample.shape[2:] else numbers
    letters = "oi...,i->oi..." if on_input else "oi...,o->oi..."
    change = torch.einsum(letters, weight(sample).double(), numbers.double())
    return Case(sample, {"weight": shaped, "on_input": torch.tensor(int(on_input))}, change, "IA³")


def oft(sample: Sample, alpha: float, rescaled: bool) -> Case:
    out = sample.shape[0]
    blocks = noise(out // 8, 8, 8)
    rotation = torch.block_diag(*cayley(blocks, alpha * out).transpose(1, 2))
    tensors = {"oft_blocks": blocks, "alpha": torch.tensor(alpha)}
    rows = torch.ones(out).double()
    if rescaled:
        tensors["rescale"] = 1 + noise(out, *(1,) * (len(sample.shape) - 1))
        rows = tensors["rescale"].double().flatten()
    flat = weight(sample).double().flatten(1)
    change = (rows[:, None] * (rotation @ flat) - flat).view(sample.shape)
    return Case(sample, tensors, change, "OFT")


def boft(sample: Sample, stages: int) -> Case:
    out, size = sample.shape[0], 4
    blocks = noise(stages, out // size, size, size)
    whole = torch.eye(out).double()
    for stage, rotations in enumerate(cayley(blocks, 0.0)):
        reach = 2**stage * size // 2
        # rows that lie ``reach`` apart become neighbours
        order = [
            start + side * reach + n
            for start in range(0, out, 2 * reach)
            for n in range(reach)
            for side in (0, 1)
        ]
        gather = torch.eye(out).double()[order]
        whole = gather.T @ torch.block_diag(*rotations) @ gather @ whole
    flat = weight(sample).double().flatten(1)
    change = (whole @ flat - flat).view(sample.shape)
    return Case(sample, {"oft_blocks": blocks, "alpha": torch.tensor(0.0)}, change, "OFT")


def dora(inner: Case, axis: str) -> Case:
    """Any change, rescaled to norms: per output row, or per input channel."""
    sample, merged = inner.sample, weight(inner.sample).double() + inner.change
    dims = [0, 2, 3] if axis == "inputs" else [1, 2, 3]
    norms = merged.square().sum([d for d in dims if d < merged.ndim], keepdim=True).sqrt()
    target = (1 + noise(*norms.shape)) * weight(sample).norm() / 8
    kind = "DoRA" if inner.kind == "LoRA" else f"{inner.kind} DoRA"
    change = merged / norms * target.double() - weight(sample).double()
    return Case(sample, inner.tensors | {"dora_scale": target}, change, kind)


def lora(sample: Sample, alpha: float = 2.0) -> Case:
    ones = (1,) * len(sample.shape[2:])
    up, down = noise(sample.shape[0], 4, *ones, seed=1), noise(4, *sample.shape[1:], seed=2)
    change = alpha / 4 * (up.double().flatten(1) @ down.double().flatten(1)).view(sample.shape)
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(alpha)}
    return Case(sample, tensors, change, "LoRA")


def three_factors(sample: Sample, middle: str) -> Case:
    """A matrix (rank, rank) between the factors."""
    plain, core = lora(sample, 8.0), noise(4, 4, size=1)
    up, down = (plain.tensors[f"lora_{half}.weight"].double() for half in ("up", "down"))
    change = (
        8
        / 4
        * sum(
            core[i, j].double() * torch.outer(up.flatten(1)[:, i], down.flatten(1)[j])
            for i in range(4)
            for j in range(4)
        )
    )
    return Case(sample, plain.tensors | {middle: core}, change.view(sample.shape), "LoRA")


def normed_lora(sample: Sample, axis: str) -> Case:
    return dora(lora(sample), axis)


def leaf(sample: Sample) -> str:
    return sample.name.rpartition(".")[2]


CASES: Mapping[str, Callable[[], Case]] = {
    "LoRA": lambda: lora(TO_K),
    "LoCon": lambda: lora(CONV),
    "LoCon, Tucker": tucker_locon,
    "LoRA-XS": lambda: three_factors(TO_K, "lora_latent_mapping.weight"),
    "Structured LoRA": lambda: three_factors(PROJ_IN, "lora_N.weight"),
    "LoHa": lambda: loha(TO_K, 4),
    "LoHa of full rank": lambda: loha(FF, 16),
    "LoHa, kernel": lambda: loha(CONV, 3),
    "LoHa, Tucker": tucker_loha,
    **{
        f"LoKr, {form}, {leaf(sample)}": partial(lokr, sample, form)
        for form in ("whole", "small whole", "both")
        for sample in (TO_K, CONV, PROJ_IN, FF)
    },
    "LoKr, Tucker": lambda: lokr(CONV, "tucker"),
    "full": lambda: full(TO_K),
    "full, tall": lambda: full(FF),
    "full, kernel": lambda: full(CONV),
    "GLoRA": lambda: glora(TO_K, old=False),
    "GLoRA, old": lambda: glora(TO_K, old=True),
    "GLoRA, square": lambda: glora(Q_PROJ, old=False),
    "GLoRA, kernel": lambda: glora(CONV, old=False),
    "GLoRA, pointwise": lambda: glora(PROJ_IN, old=False),
    "IA³ on outputs": lambda: ia3(TO_K, on_input=False),
    "IA³ on inputs": lambda: ia3(TO_K, on_input=True),
    "IA³, kernel": lambda: ia3(CONV, on_input=True),
    "OFT": lambda: oft(TO_K, 0.0, rescaled=False),
    "OFT, constrained": lambda: oft(TO_K, 1e-2, rescaled=False),
    "OFT, rescaled kernel": lambda: oft(CONV, 0.0, rescaled=True),
    "BOFT": lambda: boft(TO_K, 5),
    "BOFT, kernel": lambda: boft(CONV, 2),
    "OFT by inputs": lambda: oft_inputs(TO_K, scaled=False),
    "OFT by inputs, scaled": lambda: oft_inputs(PROJ_IN, scaled=True),
    "BOFT by inputs": lambda: boft_inputs(TO_K, 1),
    "BOFT by inputs, stages": lambda: boft_inputs(FF, 4),
    "BOFT by inputs, kernel": lambda: boft_inputs(CONV, 2),
    "SHiRA": lambda: shira(TO_K),
    "VB-LoRA": lambda: vblora(TO_K),
    "VB-LoRA, square": lambda: vblora(Q_PROJ),
    "Uni-LoRA": lambda: unilora(TO_K),
    "HRA": lambda: hra(TO_K),
    "HRA, kernel": lambda: hra(CONV),
    **{
        f"DoRA by {axis}, {leaf(sample)}": partial(normed_lora, sample, axis)
        for axis in ("outputs", "inputs")
        for sample in (TO_K, Q_PROJ, CONV)
    },
    "DoRA over LoHa": lambda: dora(loha(TO_K, 4), "outputs"),
    "DoRA over LoKr": lambda: dora(lokr(TO_K, "both"), "inputs"),
}
