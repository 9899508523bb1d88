"""Layer names of the original Stable Diffusion code (ldm, sgm), as ComfyUI and OneTrainer use them.

ComfyUI's extracted LoRAs write them with dots and the prefix ``diffusion_model.``; OneTrainer has
them with other prefixes too, and some kohya files write them with underscores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from merging.formats.layer_tables import LayerTable, Names, spellings

FAMILY = "ComfyUI"
# Modules inside a block: diffusers' name → ldm's.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def modules(table: LayerTable) -> Names:
    """ldm's dotted name → module, for every layer and normalisation of the UNet."""
    unet = [name.removeprefix("unet.") for name in table.modules if name.startswith("unet.")]
    resnets = Counter(_block(name) for name in unet if name.endswith(".conv1"))
    with_attention = {_block(name) for name in unet if ".attentions." in name}
    return {_ldm_name(name, resnets, with_attention): f"unet.{name}" for name in unet}


def names(table: LayerTable) -> Names:
    """Key stem → module, as ComfyUI names them."""
    unet = {f"diffusion_model.{name}": module for name, module in modules(table).items()}
    return unet | _text_names(table, ("text_encoders.clip_l.transformer.", "text_encoders."))


def bare_names(table: LayerTable) -> Names:
    """Key stem → module of the UNet, without prefix: OneTrainer's format "original"."""
    return modules(table)


def omi_names(table: LayerTable) -> Names:
    """Key stem → module, as the Open Model Initiative names them (OneTrainer before 2026)."""
    unet = {f"unet.{name}": module for name, module in modules(table).items()}
    return unet | _text_names(table, ("clip_l.",))


def _text_names(table: LayerTable, prefixes: tuple[str, ...]) -> Names:
    """Key stem → module of the text encoder, behind each of the prefixes."""
    return {
        prefix + spelling.partition(".")[2]: module
        for module in table.modules
        if module.startswith("text_encoder.")
        for spelling in spellings(module)
        for prefix in prefixes
    }


def _block(module: str) -> str:
    """The block of a module: ``down_blocks.0``."""
    return ".".join(module.split(".")[:2])


def _ldm_name(module: str, resnets: Mapping[str, int], with_attention: Collection[str]) -> str:
    """ldm's name of a UNet module; ``resnets`` counts those of a block."""
    if module in OUTSIDE_BLOCKS:
        return OUTSIDE_BLOCKS[module]
    if module.startswith("mid_block."):
        _, kind, number, inner = module.split(".", 3)
        return f"middle_block.{MIDDLE[f'{kind}.{number}']}.{_inner(kind, inner)}"
    side, block, kind, number, inner = module.split(".", 4)
    count, index = resnets[_block(module)], int(number)
    position = 1 if kind == "attentions" else 0
    if kind == "downsamplers":
        index = count  # a block of its own, after the resnets
    if kind == "upsamplers":
        index, position = count - 1, 1 + (_block(module) in with_attention)
    if side == "down_blocks":
        place = f"input_blocks.{int(block) * (count + 1) + index + 1}"
    else:
        place = f"output_blocks.{int(block) * count + index}"
    return f"{place}.{position}.{_inner(kind, inner)}"


def _inner(kind: str, inner: str) -> str:
    """The last part of the name, inside its block."""
    if kind == "resnets":
        return RESNET[inner]
    return "op" if kind == "downsamplers" else inner
