"""Every family is read to the change that its definition gives, and every key is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats import read, table
from merging.formats.families.exact_factors import TOLERANCE, factorise_matrix, factorise_product
from tests.merging.formats.families import CASES, Case, dora, lora, noise, weight
from tests.merging.formats.handmade import CONV, SAMPLES, TO_K, accounted, factors, kohya, saved

BASES = {sample.name: weight(sample) for sample in SAMPLES}
ERROR = 1e-6  # ‖read − meant‖ / ‖meant‖


def file_of(path: Path, case: Case) -> Path:
    return saved(path, {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()})


def error(adapter: Adapter, case: Case) -> float:
    found = adapter.layers[case.sample.name].delta().double()
    return ((found - case.change.flatten(1)).norm() / case.change.norm()).item()


@pytest.mark.parametrize("name", CASES)
def test_every_family(tmp_path: Path, name: str) -> None:
    case = CASES[name]()
    path = file_of(tmp_path / "a.safetensors", case)
    adapter = read(path, table("mini"), weights=BASES.get)
    assert error(adapter, case) < ERROR
    layer = adapter.layers[case.sample.name]
    assert layer.up.dtype == layer.down.dtype == torch.float32
    assert layer.rank <= min(case.change.flatten(1).shape)
    assert adapter.family == ("kohya" if case.kind == "LoRA" else f"kohya, {case.kind}")
    assert adapter.warnings == ()
    accounted(path)


@pytest.mark.parametrize("name", CASES)
def test_without_the_base_s_weights_it_is_read_or_asked_for(tmp_path: Path, name: str) -> None:
    case = CASES[name]()
    path = file_of(tmp_path / "a.safetensors", case)
    needed = case.kind.startswith(("GLoRA", "IA³", "OFT", "BOFT", "HRA")) or "DoRA" in case.kind
    if not needed:
        assert error(read(path), case) < ERROR
        return
    message = rf"^a\.safetensors: layer {case.sample.name} is written as {case.kind}, .*--base mini"
    for weights in (None, {}.get, {case.sample.name: torch.ones(3, 3)}.get):
        with pytest.raises(MergeError, match=message):
            read(path, weights=weights)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lycoris_", "oft_unet_"])
@pytest.mark.parametrize("name", ["LoHa", "OFT", "LoKr, whole, to_k"])
def test_prefixes(tmp_path: Path, prefix: str, name: str) -> None:
    case = CASES[name]()
    stem = case.sample.kohya.replace("lora_unet_", prefix)
    path = saved(
        tmp_path / "a.safetensors", {f"{stem}.{key}": value for key, value in case.tensors.items()}
    )
    assert error(read(path, weights=BASES.get), case) < ERROR


def test_old_lycoris_scalar(tmp_path: Path) -> None:
    case = CASES["LoHa"]()
    scaled = Case(case.sample, case.tensors | {"scalar": torch.tensor(0.5)}, case.change / 2, "")
    assert error(read(file_of(tmp_path / "a.safetensors", scaled)), scaled) < ERROR


def test_a_half_of_one_rank(tmp_path: Path) -> None:
    """torch.kron fails on the factors of such a half."""
    one, two = noise(8, 1) @ noise(1, 8), noise(8, 16)
    change = torch.kron(one.double(), two.double())
    case = Case(TO_K, {"lokr_w1": one, "lokr_w2": two}, change, "LoKr")
    adapter = read(file_of(tmp_path / "a.safetensors", case))
    assert error(adapter, case) < ERROR
    assert adapter.layers[TO_K.name].rank == 8


def test_families_may_be_mixed_layer_by_layer(tmp_path: Path) -> None:
    cases = [CASES[name]() for name in ("LoHa, Tucker", "LoKr, both, proj_in", "LoRA")]
    tensors = {
        f"{case.sample.kohya}.{key}": value for case in cases for key, value in case.tensors.items()
    }
    path = saved(tmp_path / "a.safetensors", tensors)
    adapter = read(path)
    assert max(error(adapter, case) for case in cases) < ERROR
    assert adapter.family == "kohya, LoHa and LoKr and LoRA"
    accounted(path)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("suffix", ["lora_magnitude_vector", "lora_magnitude_vector.weight"])
def test_dora_in_peft_s_spelling(tmp_path: Path, suffix: str, conv: bool) -> None:
    case = dora(lora(CONV if conv else TO_K, alpha=4.0), "outputs")
    norms = case.tensors["dora_scale"]
    stem = case.sample.name
    tensors = {
        f"{stem}.lora_A.weight": case.tensors["lora_down.weight"],
        f"{stem}.lora_B.weight": case.tensors["lora_up.weight"],
        f"{stem}.{suffix}": norms.transpose(0, 1) if conv else norms.flatten(),
    }
    adapter = read(saved(tmp_path / "a.safetensors", tensors), weights=BASES.get)
    assert error(adapter, case) < ERROR
    assert adapter.family == "diffusers (PEFT), DoRA"


# --- the smallest rank ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 64)])
@pytest.mark.parametrize("rank", [1, 7, 40])
def test_no_more_rank_than_the_change_has(shape: tuple[int, int], rank: int) -> None:
    up, down = noise(shape[0], rank).double(), noise(rank, shape[1]).double()
    for layer in (factorise_matrix(up @ down), factorise_product(up, down)):
        assert layer.rank == rank
        assert (layer.delta() - up @ down).norm() < TOLERANCE * (up @ down).norm()


def test_the_cut_stays_within_its_tolerance() -> None:
    """Singular values that fall tenfold each: those below the tolerance go, the others stay."""
    unused, right = (torch.linalg.qr(noise(30, 30, seed=n).double()).Q for n in (1, 2))
    change = unused @ torch.diag(10.0 ** -torch.arange(30).double()) @ right
    layer = factorise_matrix(change)
    assert layer.rank == 7  # 1e-6 is kept, 1e-7 and what follows are not
    assert (layer.delta() - change).norm() < TOLERANCE * change.norm()


def test_no_change_is_one_factor_of_zeros() -> None:
    layer = factorise_matrix(torch.zeros(5, 9).double())
    assert layer.rank == 1
    assert not layer.delta().any()


# --- damaged variants -----------------------------------------------------------------------------

Damage = Callable[[dict[str, Tensor]], object]


def cut(key: str, *shape: int) -> Damage:
    return lambda tensors: tensors.__setitem__(key, noise(*shape))


def without(key: str) -> Damage:
    return lambda tensors: tensors.pop(key)


# A family's sample, what happens to it, and words of the answer.
DAMAGED: dict[str, tuple[str, Damage, str]] = {
    "LoHa without a half": ("LoHa", without("hada_w2_b"), "has hada_w1_a but no hada_w2_b"),
    "LoHa, ranks": ("LoHa", cut("hada_w1_b", 5, 128), "hada_w1_a (64, 4) but hada_w1_b (5, 128)"),
    "LoHa, out": ("LoHa", cut("hada_w1_a", 65, 4), "hada_w1_a (65, 4), which does not fit"),
    "LoHa, one dimension": ("LoHa", cut("hada_w2_a", 64), "has hada_w2_a (64,) but"),
    "LoHa, core": ("LoHa, Tucker", cut("hada_t2", 3, 3, 1, 1), "has hada_t2 (3, 3, 1, 1)"),
    "LoHa, one core": ("LoHa, Tucker", without("hada_t1"), "but no hada_t1"),
    "LoHa, text": ("LoHa", cut("hada_w1_a", 0, 4), "malicious"),
    "LoKr, half": ("LoKr, both, to_k", without("lokr_w2_a"), "but no lokr_w2"),
    "LoKr, no w1": ("LoKr, whole, to_k", without("lokr_w1"), "but no lokr_w1"),
    "LoKr, size": ("LoKr, whole, to_k", cut("lokr_w1", 8, 9), "lokr_w1 (8, 9) and lokr_w2"),
    "LoKr, ranks": ("LoKr, both, to_k", cut("lokr_w1_b", 3, 8), "lokr_w1_b (3, 8)"),
    "LoKr, t1": ("LoKr, Tucker", cut("lokr_t1", 3, 3), "no known trainer writes"),
    "LoKr, one number": ("LoKr, Tucker", cut("lokr_w2_a", 3), "has lokr_w2_a (3,)"),
    "full, size": ("full", cut("diff", 64, 127), "has diff (64, 127), which does not fit"),
    "full, kernel": ("full, kernel", cut("diff", 32, 128, 3, 3), "(32, 128, 3, 3), which"),
    "GLoRA, half": ("GLoRA", without("a2.weight"), "has a1.weight but no a2.weight"),
    "GLoRA, rank": ("GLoRA", cut("a1.weight", 128, 5), "a1.weight (128, 5) but a2.weight"),
    "GLoRA, size": ("GLoRA", cut("b1.weight", 63, 4), "does not fit its weight (64, 128)"),
    "GLoRA, Tucker": ("GLoRA, kernel", cut("bm.weight", 4, 4, 3, 3), "no known trainer writes"),
    "IA³, half": ("IA³ on inputs", without("on_input"), "has weight but no on_input"),
    "IA³, size": ("IA³ on inputs", cut("weight", 127), "has weight (127,), which does not fit"),
    "IA³, side": ("IA³ on inputs", cut("weight", 64), "has 64 numbers for its 128 inputs"),
    "OFT, size": ("OFT", cut("oft_blocks", 9, 8, 8), "has oft_blocks (9, 8, 8), which"),
    "OFT, no square": ("OFT", cut("oft_blocks", 8, 8, 7), "has oft_blocks (8, 8, 7), which"),
    "BOFT, stages": ("BOFT", cut("oft_blocks", 6, 16, 4, 4), "(6, 16, 4, 4), which does not fit"),
    "OFT, rescale": ("OFT, rescaled kernel", cut("rescale", 63, 1, 1, 1), "has rescale (63"),
    "DoRA, norms": ("DoRA by outputs, to_k", cut("dora_scale", 63, 1), "has dora_scale (63"),
    "DoRA alone": (
        "DoRA by outputs, to_k",
        lambda tensors: [tensors.pop(key) for key in [*tensors] if key.startswith("lora_")],
        "has alpha but no weights",
    ),
    "Tucker, core": ("LoCon, Tucker", cut("lora_mid.weight", 4, 4, 5, 5), "has mid (4, 4, 5, 5)"),
    "Tucker, linear": ("LoRA", cut("lora_mid.weight", 4, 4, 3, 3), "has down (4, 128)"),
    "two families": ("LoRA", cut("diff", 64, 128), "is written as LoRA and as full difference"),
    "not a number": (
        "LoHa",
        lambda tensors: tensors["hada_w1_a"].fill_(float("nan")),
        "has values that are not finite",
    ),
    "too large for float32": (
        "LoHa",
        lambda tensors: [value.fill_(1e30) for value in tensors.values() if value.ndim],
        "has values that are not finite",
    ),
    "whole numbers": (
        "full",
        lambda tensors: tensors.update(diff=torch.ones(64, 128, dtype=torch.int8)),
        "of type I8",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_variants_are_refused_by_layer(tmp_path: Path, name: str) -> None:
    family, damage, message = DAMAGED[name]
    case = CASES[family]()
    tensors = dict(case.tensors)
    damage(tensors)
    path = file_of(tmp_path / "bad.safetensors", Case(case.sample, tensors, case.change, ""))
    with pytest.raises(MergeError) as caught:
        read(path, table("mini"), weights=BASES.get)
    text = str(caught.value)
    assert text.startswith("bad.safetensors: ")
    assert message in text
    assert case.sample.name in text or "malicious" in message
    assert "\n" not in text
    assert text.endswith(".")


def test_a_plain_lora_keeps_its_very_factors(tmp_path: Path) -> None:
    part = factors(TO_K)
    path = saved(tmp_path / "a.safetensors", kohya({TO_K: part}, {TO_K: 2.0}))
    layer = read(path).layers[TO_K.name]
    assert torch.equal(layer.up, part.up.float())
    assert torch.equal(layer.down, part.down.float())
