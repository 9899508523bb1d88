"""Merges by peft, to compare with: ``add_weighted_adapter`` on bare linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError

Combination = Literal["cat", "svd", "ties", "dare_linear"]
DENSITY = 0.7  # of ties and dare_linear, as in this project's TIES


def merge_with_peft(
    adapters: Sequence[Adapter], combination: Combination, seed: int = 0
) -> Adapter:
    """The adapters at strength 1, merged by peft. A layer that an adapter lacks is 0 there.

    MergeError if peft refuses: ``ties`` and ``dare_linear`` need equal ranks.
    """
    names = [f"lora{index}" for index in range(len(adapters))]
    rows = [[adapter.layers.get(layer) for adapter in adapters] for layer in _layers(adapters)]
    density = {} if combination in ("cat", "svd") else {"density": DENSITY}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # peft takes no seed for its initial values and for dropping
        model = _model(rows, names)
        try:
            model.add_weighted_adapter(
                names, [1.0] * len(names), "merged", combination_type=combination, **density
            )
        except ValueError as error:
            raise MergeError(f"peft refuses: {error}") from None
    layers = {layer: _merged_layer(model, index) for index, layer in enumerate(_layers(adapters))}
    return Adapter(f"peft-{combination}", layers, base=adapters[0].base)


def _layers(adapters: Sequence[Adapter]) -> list[str]:
    return list(dict.fromkeys(layer for adapter in adapters for layer in adapter.layers))


def _model(rows: Sequence[Sequence[LoraLayer | None]], names: Sequence[str]) -> PeftModel:
    """One linear layer for each row, with every LoRA's factors on it."""
    shapes = [
        next((layer.up.shape[0], layer.down.shape[1]) for layer in row if layer) for row in rows
    ]
    modules = {str(i): nn.Linear(width, out, bias=False) for i, (out, width) in enumerate(shapes)}
    columns = list(zip(*rows, strict=True))
    model = get_peft_model(nn.ModuleDict(modules), _config(columns[0]), adapter_name=names[0])
    for name, column in zip(names, columns, strict=True):
        if name != names[0]:
            model.add_adapter(name, _config(column))
        for i, layer in enumerate(column):
            _fill(model.get_submodule(f"base_model.model.{i}"), name, layer)
    return model


def _config(column: Sequence[LoraLayer | None]) -> LoraConfig:
    """Rank and alpha of one LoRA, layer by layer."""
    layers = {f"^{i}$": layer for i, layer in enumerate(column) if layer is not None}
    return LoraConfig(
        r=max(layer.rank for layer in layers.values()),
        target_modules=[str(i) for i in range(len(column))],
        rank_pattern={name: layer.rank for name, layer in layers.items()},
        alpha_pattern={name: layer.alpha for name, layer in layers.items()},
    )


def _fill(module: Any, name: str, layer: LoraLayer | None) -> None:
    """Copy the factors; without a layer peft's initial up = 0 stays."""
    if layer is not None:
        module.lora_A[name].weight.data.copy_(layer.down)
        module.lora_B[name].weight.data.copy_(layer.up)


def _merged_layer(model: PeftModel, index: int) -> LoraLayer:
    module: Any = model.get_submodule(f"base_model.model.{index}")
    down = module.lora_A["merged"].weight.detach().clone()
    up = module.lora_B["merged"].weight.detach() * module.scaling["merged"]
    return LoraLayer(up, down, alpha=down.shape[0])
