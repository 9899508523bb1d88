"""Layer names of the original Stable Diffusion code (ldm, sgm), as ComfyUI uses them.

ComfyUI's extracted LoRAs have them with dots and ``diffusion_model.`` in front; kohya-type files
for them have underscores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from merging.formats.layer_tables import LayerTable, Names, spellings

FAMILY = "ComfyUI"
# What stands inside a block of each kind, in diffusers' words and in ldm's.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def modules(table: LayerTable) -> Names:
    """ldm's dotted name → module, for every layer and normalisation of the UNet."""
    own = [each.removeprefix("unet.") for each in table.modules if each.startswith("unet.")]
    blocks = Counter(_block(each) for each in own if each.endswith(".conv1"))
    attended = {_block(each) for each in own if ".attentions." in each}
    return {_module(each, blocks, attended): f"unet.{each}" for each in own}


def names(table: LayerTable) -> Names:
    """What ComfyUI calls the modules."""
    found = {f"diffusion_model.{name}": module for name, module in modules(table).items()}
    for module in table.modules:
        if module.startswith("text_encoder."):
            for spelling in spellings(module):
                name = spelling.partition(".")[2]
                found[f"text_encoders.clip_l.transformer.{name}"] = module
                found[f"text_encoders.{name}"] = module
    return found


def _block(module: str) -> str:
    """The block that a module lies in: ``down_blocks.0``."""
    return ".".join(module.split(".")[:2])


def _module(module: str, resnets: Mapping[str, int], attended: Collection[str]) -> str:
    """ldm's name of one module of the UNet; blocks have so many resnets, some have attention."""
    if module in ENDS:
        return ENDS[module]
    if module.startswith("mid_block."):
        _, kind, number, inner = module.split(".", 3)
        return f"middle_block.{MIDDLE[f'{kind}.{number}']}.{_inner(kind, inner)}"
    side, block, kind, number, inner = module.split(".", 4)
    count, index = resnets[_block(module)], int(number)
    position = 1 if kind == "attentions" else 0
    if kind == "downsamplers":
        index = count  # a block of its own, after the resnets
    if kind == "upsamplers":
        index, position = count - 1, 1 + (_block(module) in attended)
    if side == "down_blocks":
        place = f"input_blocks.{int(block) * (count + 1) + index + 1}"
    else:
        place = f"output_blocks.{int(block) * count + index}"
    return f"{place}.{position}.{_inner(kind, inner)}"


def _inner(kind: str, inner: str) -> str:
    """The rest of a name, within its block."""
    if kind == "resnets":
        return RESNET[inner]
    return "op" if kind == "downsamplers" else inner
