"""Random mixtures of families, ranks, alphas, dtypes and strengths: a merge by sum is their sum.

lycoris-lora's and peft's own modules make the values and, once these are rounded to the file's
type, say what they do to a layer: nothing but our own arithmetic can differ.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.wrapper import network_module_dict
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.engine import merge
from merging.formats.key_names.kohya import key_stems
from merging.request import MergeRequest, Source
from tests.conftest import speaking
from tests.merging.formats.handmade import saved
from tests.merging.formats.producers import CLIP_LAYERS, LAYERS, effect, loaded

pytestmark = pytest.mark.usefixtures("quiet")
ERROR = 1e-5  # ‖ours − the sum‖ / Σ ‖each‖ of a layer
NAMES = [f"unet.{name}" for name in LAYERS]
NAMES += [f"text_encoder.text_model.{name}" for name in CLIP_LAYERS]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ALPHAS = (0.5, 1.0, 3.0, 8.0)  # all of them exact in bfloat16
# What lycoris-lora calls each family, and its options.
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("locon", {}),
    ("locon", {"use_tucker": True}),
    ("locon", {"use_scalar": True}),
    ("locon", {"rs_lora": True}),
    ("locon", {"weight_decompose": True}),
    ("locon", {"weight_decompose": True, "wd_on_out": False}),
    ("loha", {}),
    ("loha", {"use_tucker": True}),
    ("loha", {"weight_decompose": True}),
    ("lokr", {"factor": 4}),
    ("lokr", {"factor": 8, "decompose_both": True}),
    ("lokr", {"factor": 4, "full_matrix": True}),
    ("full", {}),
    ("glora", {}),
    ("ia3", {}),
    ("diag-oft", {}),
    ("boft", {}),
)
# Those that its own loader does not take; their modules are rounded where they are.
UNLOADABLE = (("ia3", {}), ("locon", {"weight_decompose": True, "wd_on_out": False}))
FLOAT32_ONLY = ("diag-oft", "boft")
Changes = dict[str, Tensor]


@dataclass(frozen=True)
class Made:
    """One file as a producer would save it, and what it does to each layer, (out, in)."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]
    changes: Changes


@torch.no_grad()
def fill(module: nn.Module, dice: random.Random, marks: str = "") -> None:
    """Random values in place of training."""
    generator = torch.Generator().manual_seed(dice.randrange(1 << 30))
    for name, value in module.named_parameters():
        if marks in name:
            value.add_(0.05 * torch.randn(value.shape, generator=generator))


def by_lycoris(base: Base, dice: random.Random, dtype: torch.dtype) -> Made:
    """Each layer of a family of its own."""
    tensors, changes = {}, Changes()
    for name in dice.sample(NAMES, dice.randint(1, 3)):
        layer, weight = deepcopy(base.layers[name]), base.layers[name].weight.detach()
        algorithm, options = dice.choice(FAMILIES)
        sizes = {"lora_dim": dice.randint(1, 8), "alpha": dice.choice(ALPHAS)}
        if algorithm in FLOAT32_ONLY:  # rank is the size of their blocks; those of 1 do nothing
            sizes["lora_dim"] = dice.choice((2, 4, 8))
        stem = key_stems(name)[0]
        module = network_module_dict[algorithm](stem, layer, **sizes, **options)
        module.apply_to()
        fill(module, dice)
        if (algorithm, options) in UNLOADABLE:
            module.to(dtype).float()
        own = {f"{stem}.{key}": value.to(dtype) for key, value in module.state_dict().items()}
        if (algorithm, options) not in UNLOADABLE:
            layer = deepcopy(base.layers[name])
            module = loaded(own, stem, layer)
        tensors |= own
        measured = torch.float32 if algorithm in FLOAT32_ONLY else torch.float64
        module.to(measured), layer.to(measured)
        changes[name] = effect(layer, weight, measured)
    return Made(tensors, {}, changes)


def by_peft(base: Base, dice: random.Random, dtype: torch.dtype) -> Made:
    """Ranks and alphas of each layer, which diffusers keeps in the header."""
    tensors, changes, settings = {}, Changes(), {}
    for name in dice.sample(NAMES, dice.randint(1, 3)):
        layer, weight = deepcopy(base.layers[name]), base.layers[name].weight.detach()
        rank, alpha = dice.randint(1, 8), dice.choice(ALPHAS)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["x"])
        model = inject_adapter_in_model(config, nn.ModuleDict({"x": layer}))
        fill(model, dice, "lora_")
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.data = value.data.to(dtype).float()
        for key, value in get_peft_model_state_dict(model).items():
            tensors[name + key.removeprefix("x")] = value.to(dtype)
        part, _, module = name.partition(".")
        settings.setdefault(f"{part}.alpha_pattern", {})[module] = alpha
        changes[name] = effect(model["x"].double(), weight, torch.float64)
    return Made(tensors, {"lora_adapter_metadata": json.dumps(settings)}, changes)


def check(adapter: Adapter, expected: Changes, scale: Mapping[str, float]) -> None:
    assert speaking(adapter) == expected.keys()
    for name, change in expected.items():
        error = float((adapter.layers[name].delta().double() - change).norm()) / scale[name]
        assert error < ERROR, f"{name}: {error:.1e}"


@pytest.mark.slow(30)
@pytest.mark.parametrize("seed", range(120))
def test_a_merge_by_sum_is_the_sum(tmp_path: Path, base: Base, seed: int) -> None:
    dice = random.Random(seed)
    sources, expected, scale = [], Changes(), dict[str, float]()
    for number in range(dice.randint(2, 4)):
        dtype = dice.choice(DTYPES)
        made = dice.choice((by_lycoris, by_lycoris, by_peft))(base, dice, dtype)
        path = saved(tmp_path / f"{number}.safetensors", made.tensors, made.header)
        strength = round(dice.uniform(-2, 2), 2) or 1.0
        sources.append(Source(formats.read(path, base.table, weights=base.weight), strength))
        for name, change in made.changes.items():
            expected[name] = expected.get(name, 0) + strength * change
            scale[name] = scale.get(name, 0.0) + abs(strength) * float(change.norm())
    merged = merge(MergeRequest(tuple(sources), method="sum")).adapter
    check(merged, expected, scale)
    form, out = dice.choice(sorted(formats.WRITERS)), tmp_path / "merged.safetensors"
    formats.WRITERS[form](merged, out, torch.float32)
    check(formats.read(out, base.table), expected, scale)
