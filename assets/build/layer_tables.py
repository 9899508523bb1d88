"""Write merging/formats/tables/*.json: weight shapes of the base models' layers, and of vectors.

Both are those of the models themselves, built from their configurations on the meta
device (no weights), in the order in which a forward pass reaches them.

    python -m assets.build.layer_tables
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from merging.diffusion.loading.sd15_config import SD15_TEXT_ENCODER, SD15_UNET

ROOT = Path(__file__).parents[2]
MINI = ROOT / "assets" / "mini-sd"
TABLES = ROOT / "merging" / "formats" / "tables"
MODULES = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)


def configs(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configurations of UNet and text encoder of "sd15" or "mini"."""
    if name == "sd15":
        return SD15_UNET, SD15_TEXT_ENCODER
    parts = ("unet", "text_encoder")
    unet, text = (json.loads((MINI / part / "config.json").read_text("utf-8")) for part in parts)
    return unet, text


def models(name: str) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder on the meta device: shapes without weights."""
    unet, text = configs(name)
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(unet), CLIPTextModel(CLIPTextConfig(**text))


Rows = dict[str, tuple[int, ...] | int]


def rows(name: str) -> Rows:
    """In forward order, by canonical name: the weight shape of every Linear and Conv2d.

    Between them the lengths of vectors, by parameter: biases, and weights of normalisations.
    """
    unet, text = models(name)
    tokens = torch.zeros(1, text.config.max_position_embeddings, dtype=torch.long, device="meta")
    size = unet.config.sample_size
    latents = torch.zeros(1, unet.config.in_channels, size, size, device="meta")
    states = torch.zeros(1, tokens.shape[1], unet.config.cross_attention_dim, device="meta")
    found = recorded(text, lambda: text(tokens))
    found = {f"text_encoder.text_model.{bare(key)}": shape for key, shape in found.items()}
    drawn = recorded(unet, lambda: unet(latents, torch.zeros(1, device="meta"), states))
    return found | {f"unet.{key}": shape for key, shape in drawn.items()}


def bare(name: str) -> str:
    """A module's name without CLIP's ``text_model.`` level, which transformers 5 dropped."""
    return name.removeprefix("text_model.")


@torch.no_grad()
def recorded(model: nn.Module, forward: Callable[[], object]) -> Rows:
    """Names and sizes of what a forward pass reaches, in order."""
    found: Rows = {}

    def watch(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda own, _inputs: found.update(sizes(name, own)))

    for name, module in model.named_modules():
        if isinstance(module, MODULES):
            watch(name, module)
    forward()
    return found


def sizes(name: str, module: nn.Module) -> Rows:
    """A layer's weight by the layer's name, vectors by their own."""
    found: Rows = {}
    for parameter, value in module.named_parameters(recurse=False):
        if value.ndim > 1:
            found[name] = tuple(value.shape)
        else:
            found[f"{name}.{parameter}"] = len(value)
    return found


def as_json(table: Rows) -> str:
    """One name a line, so that a difference can be read."""
    lines = [f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in table.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    TABLES.mkdir(exist_ok=True)
    for name in ("sd15", "mini"):
        (TABLES / f"{name}.json").write_text(as_json(rows(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
