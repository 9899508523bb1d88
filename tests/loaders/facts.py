"""Stable Diffusion 1.5's layers as six programs find them in kohya's files: facts, by hand.

A1111, Forge and ComfyUI look up the names of the original code, which stand beside diffusers' here;
InvokeAI, sd-scripts and diffusers take diffusers' names with underscores. Nothing is taken from our
own tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

# Blocks of the UNet: diffusers' name = the original code's; lists in braces go side by side.
RESNETS = """
down_blocks.0.resnets.{0,1} = input_blocks.{1,2}.0
down_blocks.1.resnets.{0,1} = input_blocks.{4,5}.0
down_blocks.2.resnets.{0,1} = input_blocks.{7,8}.0
down_blocks.3.resnets.{0,1} = input_blocks.{10,11}.0
mid_block.resnets.{0,1} = middle_block.{0,2}
up_blocks.0.resnets.{0,1,2} = output_blocks.{0,1,2}.0
up_blocks.1.resnets.{0,1,2} = output_blocks.{3,4,5}.0
up_blocks.2.resnets.{0,1,2} = output_blocks.{6,7,8}.0
up_blocks.3.resnets.{0,1,2} = output_blocks.{9,10,11}.0
"""
TRANSFORMERS = """
down_blocks.0.attentions.{0,1} = input_blocks.{1,2}.1
down_blocks.1.attentions.{0,1} = input_blocks.{4,5}.1
down_blocks.2.attentions.{0,1} = input_blocks.{7,8}.1
mid_block.attentions.{0} = middle_block.{1}
up_blocks.1.attentions.{0,1,2} = output_blocks.{3,4,5}.1
up_blocks.2.attentions.{0,1,2} = output_blocks.{6,7,8}.1
up_blocks.3.attentions.{0,1,2} = output_blocks.{9,10,11}.1
"""
SCALERS = """
down_blocks.{0,1,2}.downsamplers.0.conv = input_blocks.{3,6,9}.0.op
up_blocks.{0,1,2}.upsamplers.0.conv = output_blocks.{2.1,5.2,8.2}.conv
"""
IN_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1"}
SHORTCUT = re.compile(r"(down_blocks\.[12]\.resnets\.0|up_blocks\.\d\.resnets\.\d)")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("ff.net.0.proj", "ff.net.2")
CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")

Names = dict[str, str]  # diffusers' name of a module → the original code's


def rows(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of names that a table lists."""
    for line in text.split("\n"):
        if line:
            sides = [re.split(r"\{(.+)\}", side) for side in line.split(" = ")]
            (start, many, end), (first, others, last) = sides
            for one, other in zip(many.split(","), others.split(","), strict=True):
                yield f"{start}{one}{end}", f"{first}{other}{last}"


def resnets() -> Names:
    """The convolutions of the residual blocks, and what scales between blocks."""
    names = dict(rows(SCALERS))
    for block, place in rows(RESNETS):
        names |= {f"{block}.{ours}": f"{place}.{theirs}" for ours, theirs in IN_RESNET.items()}
        if SHORTCUT.fullmatch(block):
            names[f"{block}.conv_shortcut"] = f"{place}.skip_connection"
    return names


def transformers(*inner: str) -> Names:
    """These layers of every transformer; the original code calls them as diffusers does."""
    return {
        f"{block}.{name}": f"{place}.{name}"
        for (block, place), name in product(rows(TRANSFORMERS), inner)
    }


def in_block(*inner: str) -> list[str]:
    return [f"transformer_blocks.0.{name}" for name in inner]


def attention(number: int) -> Names:
    return transformers(*in_block(*(f"attn{number}.{name}" for name in ATTENTION)))


def clip(*inner: str) -> Names:
    """These layers of the text encoder, whose names are the same everywhere."""
    names = [f"text_model.encoder.layers.{n}.{name}" for n, name in product(range(12), inner)]
    return {name: name for name in names}


UNET = transformers(*in_block(*MLP), "proj_in", "proj_out") | attention(1) | attention(2)
TEXT_ATTENTION = clip(*(f"self_attn.{name}" for name in CLIP_ATTENTION))
TEXT_MLP = clip("mlp.fc1", "mlp.fc2")
# What a LoRA may have: title → (modules of the UNet, modules of the text encoder).
KINDS: dict[str, tuple[Names, Names]] = {
    "264 modules": (UNET, TEXT_ATTENTION | TEXT_MLP),
    "350 modules": (UNET | resnets(), TEXT_ATTENTION | TEXT_MLP),
    "72 modules": ({}, TEXT_ATTENTION | TEXT_MLP),
    "attn1 alone": (attention(1), {}),
    "attn2 alone": (attention(2), {}),
    "MLP alone": ({}, TEXT_MLP),
    "resnets alone": (resnets(), {}),
}
COUNTS = {
    "264 modules": 264,
    "350 modules": 350,
    "72 modules": 72,
    "attn1 alone": 64,
    "attn2 alone": 64,
    "MLP alone": 24,
    "resnets alone": 86,
}
WIDTHS_OF_INVOKEAI = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "SDXL"}


def stems(kind: str) -> Names:
    """Stem of a key → canonical name of the module, for all modules of a kind."""
    unet, text = KINDS[kind]
    return {f"lora_unet_{name.replace('.', '_')}": f"unet.{name}" for name in unet} | {
        f"lora_te_{name.replace('.', '_')}": f"text_encoder.{name}" for name in text
    }
