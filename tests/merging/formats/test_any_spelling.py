"""Spelling, family, alpha, type and adapter name are independent: any of them with any other.

The producers of today mix them: OneTrainer writes LoHa with diffusers' names, ComfyUI reads PEFT's
endings behind its own, and diffusers saves old names with settings in the header.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merging.errors import MergeError
from merging.formats import overview, read, table
from tests.merging.formats.families import CASES, Case, lora, weight
from tests.merging.formats.handmade import (
    COMFY,
    CONV,
    LDM,
    SAMPLES,
    TO_K,
    Sample,
    accounted,
    refusal,
    saved,
)

BASES = {sample.name: weight(sample) for sample in SAMPLES}
ERROR = 1e-6  # ‖read − meant‖ / ‖meant‖


def inner(sample: Sample) -> str:
    """The module's name inside its model."""
    return sample.name.partition(".")[2]


SPELLINGS: dict[str, Callable[[Sample], str]] = {
    "kohya": lambda s: s.kohya,
    "LyCORIS": lambda s: s.kohya.replace("lora_unet_", "lycoris_").replace("lora_te_", "lycoris_"),
    "diffusers": lambda s: s.name,
    "diffusers, short CLIP names": lambda s: s.name.replace(".text_model", ""),
    "bare": inner,
    "PEFT": lambda s: f"base_model.model.{inner(s)}",
    "ComfyUI": lambda s: COMFY.get(s, f"text_encoders.{inner(s)}"),
    "OMI": lambda s: f"unet.{LDM[s]}" if s in LDM else f"clip_l.{inner(s)}",
    "original code": lambda s: LDM.get(s, s.kohya),
    "original code, kohya's prefix": lambda s: (
        f"lora_unet_{LDM[s].replace('.', '_')}" if s in LDM else s.kohya
    ),
}
ENDINGS = {  # of a LoRA's factors
    "kohya": ("lora_down.weight", "lora_up.weight"),
    "PEFT": ("lora_A.weight", "lora_B.weight"),
    "diffusers of 2023": ("lora.down.weight", "lora.up.weight"),
}


def respelled(case: Case, draw: random.Random) -> dict[str, Tensor]:
    """The case's tensors by the ends of their keys, as one program or another writes them."""
    down, up = draw.choice(list(ENDINGS.values()))
    names = {"lora_down.weight": down, "lora_up.weight": up}
    tensors = {names.get(key, key): value for key, value in case.tensors.items()}
    if draw.random() < 0.5:
        return tensors
    name = draw.choice(("default", "my-style_2"))
    return {_with_name(key, name): value for key, value in tensors.items()}


def _with_name(key: str, name: str) -> str:
    """PEFT's parameters with the name of their adapter, as a live model's state has them."""
    if key.startswith(("lora_A", "lora_B")):
        return key.replace(".weight", f".{name}.weight")
    return f"{key}.{name}" if key.startswith(("hada_", "lokr_")) else key


def settings_for(case: Case, alpha: float, draw: random.Random) -> dict[str, Any]:
    """PEFT's settings with this alpha for the case's layer, by one of its conventions."""
    part, _, name = case.sample.name.partition(".")
    end = ".".join(name.split(".")[-2:])
    convention = draw.choice(("common", "name", "regular expression", "rank-stabilised"))
    if convention == "rank-stabilised" and case.kind == "LoRA":
        return {f"{part}.lora_alpha": alpha / sqrt(4), f"{part}.use_rslora": True}
    if convention == "name":
        return {f"{part}.lora_alpha": 77, f"{part}.alpha_pattern": {f"^{name}": alpha}}
    if convention == "regular expression":
        pattern = {r"nowhere\d+": 5, rf".*{end[:-1]}.": alpha}
        return {f"{part}.lora_alpha": 77, f"{part}.alpha_pattern": pattern}
    return {f"{part}.{draw.choice(('lora_alpha', 'alpha'))}": alpha}


def rank_of(case: Case) -> int:
    """The inner size of the case's factors; 2 for halves that are whole."""
    inner = ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    return next((case.tensors[key].shape[0] for key in inner if key in case.tensors), 2)


def rank_settings(case: Case, rank: int, draw: random.Random) -> dict[str, Any]:
    """PEFT's settings with this rank for the case's layer: common, by name or by a pattern."""
    part, _, name = case.sample.name.partition(".")
    end = name.rpartition(".")[2]
    key = draw.choice(("", name, f"^{name}", end, rf".*\.{end}", f"({end}|nothing)"))
    if not key:
        return {f"{part}.r": rank}
    others = {f"{end}x": 3, "elsewhere.*": 5}
    return {f"{part}.r": 77, f"{part}.rank_pattern": others | {key: rank}}


def in_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type if that holds it exactly."""
    cast = value.to(dtype)
    return cast.contiguous() if torch.equal(cast.to(value.dtype), value) else value.contiguous()


@pytest.mark.parametrize("seed", range(120))
def test_any_spelling_with_any_family(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    case = CASES[draw.choice(list(CASES))]()
    tensors, header, expected = respelled(case, draw), {}, case.change
    if "alpha" in tensors and case.kind != "OFT" and draw.random() < 0.6:
        alpha = tensors.pop("alpha").item()
        # PEFT's LoKr divides by the rank that was asked for, whatever its halves have
        rank = draw.choice((1, 2, 7, 32)) if case.kind == "LoKr" else rank_of(case)
        expected = rank_of(case) / rank * expected
        settings = settings_for(case, alpha, draw) | rank_settings(case, rank, draw)
        header["lora_adapter_metadata"] = json.dumps(settings)
    stem = SPELLINGS[draw.choice(list(SPELLINGS))](case.sample)
    dtype = draw.choice((torch.float32, torch.float16, torch.bfloat16))
    stored = {f"{stem}.{key}": in_type(value, dtype) for key, value in tensors.items()}
    if stem.startswith("base_model.") and not header:
        (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    path = saved(tmp_path / "a.safetensors", stored, header)
    layer = read(path, table("mini"), weights=BASES.get).layers[case.sample.name]
    wrong = (layer.delta().double() - expected.flatten(1)).norm() / expected.norm()
    assert wrong < ERROR, (sorted(stored), header)
    assert overview(path, table("mini")).matched["unet"] == (case.sample.name[0] == "u")
    accounted(path)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_without_alpha_it_is_the_rank(tmp_path: Path, spelling: str, ending: str) -> None:
    case, (down, up) = lora(TO_K, alpha=4.0), ENDINGS[ending]
    stem = SPELLINGS[spelling](TO_K)
    factors = {down: case.tensors["lora_down.weight"], up: case.tensors["lora_up.weight"]}
    (tmp_path / "adapter_config.json").write_text("{}")
    path = saved(tmp_path / "a.safetensors", {f"{stem}.{k}": v for k, v in factors.items()})
    found = read(path).layers[TO_K.name].delta().double()
    assert (found - case.change).norm() < ERROR * found.norm()


UNREADABLE = {
    "q_layer.weight": "T-LoRA, which cannot be read: its change is another one at every step",
    "lora_E": "AdaLoRA",
    "ia3_l": "peft's IA³",
    "randlora_lambda.default": "peft's RandLoRA",
    "new_thing.weight": "has new_thing.weight, which belongs to no family of adapters",
}


@pytest.mark.parametrize("ending", UNREADABLE)
@pytest.mark.parametrize("beside", [False, True])
def test_an_unknown_family_is_refused_by_name(tmp_path: Path, ending: str, beside: bool) -> None:
    """Even beside a LoRA of other layers: its change would be lost."""
    tensors = {f"{TO_K.name}.{ending}": torch.ones(4, 4)}
    if beside:
        others = [sample for sample in SAMPLES if sample != TO_K]
        tensors |= {f"{s.kohya}.{k}": v for s in others for k, v in lora(s).tensors.items()}
    text = refusal(saved(tmp_path / "a.safetensors", tensors))
    assert TO_K.name in text and UNREADABLE[ending] in text


def test_oft_by_inputs_with_a_limit_or_on_kernels_is_refused(tmp_path: Path) -> None:
    tensors = {f"{TO_K.name}.oft_R.weight": torch.ones(16, 28)}
    header = {"lora_adapter_metadata": json.dumps({"unet.coft": True})}
    path = saved(tmp_path / "a.safetensors", tensors, header)
    with pytest.raises(MergeError, match=r"^a\.safetensors is OFT with a limit \(coft\)"):
        read(path, table("mini"), weights=BASES.get)
    tensors = {f"{CONV.kohya}.oft_R.weight": torch.ones(72, 28)}
    assert "OFT of a kernel" in refusal(saved(tmp_path / "b.safetensors", tensors))
