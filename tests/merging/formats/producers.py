"""Modules of lycoris-lora and peft: trained at random, loaded from files, and what they then do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lycoris.modules import get_module, make_module
from peft import LoraConfig
from torch import Tensor, nn

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.engine import merge
from merging.formats import read, write_kohya
from merging.request import MergeRequest, Source
from tests.conftest import speaking

BLOCK = "down_blocks.0.attentions.0"
LAYERS = (  # linear, feed-forward, pointwise, kernel, and sizes that differ
    f"{BLOCK}.transformer_blocks.0.attn2.to_k",
    f"{BLOCK}.transformer_blocks.0.attn1.to_out.0",
    f"{BLOCK}.transformer_blocks.0.ff.net.0.proj",
    f"{BLOCK}.proj_in",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.resnets.0.time_emb_proj",
    "down_blocks.1.resnets.0.conv_shortcut",
)
CLIP_LAYERS = ("encoder.layers.1.self_attn.q_proj", "encoder.layers.0.mlp.fc1")
Models = dict[str, nn.Module]
ERROR = 1e-5  # ‖ours − the producer's‖ / ‖the producer's‖ of each layer
Changes = Mapping[str, Tensor]


def config(layers: tuple[str, ...], options: Mapping[str, Any]) -> LoraConfig:
    """For these layers; patterns for others are left out, which peft warns of."""
    own = {
        key: {layer: value[layer] for layer in layers if layer in value}
        if "pattern" in key
        else value
        for key, value in options.items()
    }
    own = {"init_lora_weights": "gaussian"} | own
    return LoraConfig(r=4, target_modules=list(layers), **own)


def trained(model: nn.Module, marks: tuple[str, ...] = ("",)) -> None:
    """Random values in place of training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(mark in name for mark in marks):
                value.add_(0.05 * torch.randn(value.shape, generator=generator))


@torch.no_grad()
def weight_of(module: nn.Module, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The weight with which a module acts: what it makes of single channels or pixels."""
    if len(shape) == 2:
        inputs = torch.eye(shape[1], dtype=dtype)
        return (module(inputs) - module(0 * inputs[:1])).T
    wide, size = shape[1], shape[2]
    pixels = torch.zeros(wide, wide, 2 * size - 1, 2 * size - 1, dtype=dtype)
    pixels[range(wide), range(wide), size - 1, size - 1] = 1
    seen = module(pixels) - module(0 * pixels[:1])
    edge = (seen.shape[-1] - size) // 2
    return seen[..., edge : edge + size, edge : edge + size].flip(2, 3).transpose(0, 1)


def effect(layer: nn.Module, weight: Tensor, dtype: torch.dtype) -> Tensor:
    found = weight_of(layer, weight.shape, dtype)
    return (found - weight).detach().flatten(1).double()


def loaded(tensors: Mapping[str, Tensor], stem: str, layer: nn.Module) -> nn.Module:
    """The module that lycoris-lora makes of a layer's values in a file."""
    values = {key: value.float() for key, value in tensors.items()}
    module = make_module(*get_module(values, stem), stem, layer)
    module.apply_to()
    return module


def changes(
    models: Models, base: Base, layers: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> Changes:
    """Canonical name → Δ, (out, in); ``layers`` gives the module's name in its model."""
    found = {}
    for layer, name in layers.items():
        module = models[layer.partition(".")[0]].get_submodule(name)
        weight = base.layers[layer].weight.detach()
        found[layer] = (weight_of(module, weight.shape, dtype) - weight).flatten(1).double()
    return found


def check(path: Path, base: Base, expected: Changes) -> Adapter:
    """Read as meant, and the same after a merge of this file alone."""
    adapter = read(path, base.table, weights=base.weight)
    _same(adapter, expected)
    result = merge(MergeRequest((Source(adapter),), method="sum"))
    write_kohya(result.adapter, path.with_name("merged.safetensors"), torch.float32)
    _same(read(path.with_name("merged.safetensors"), base.table), expected)
    return adapter


def _same(adapter: Adapter, expected: Changes) -> None:
    assert speaking(adapter) == expected.keys()
    for layer, change in expected.items():
        assert change.norm() > 0
        found = adapter.layers[layer].delta().double()
        error = float((found - change).norm() / change.norm())
        assert error < ERROR, f"{layer}: {error:.1e}"
