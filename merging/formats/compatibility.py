"""Which layers other programs find for a file's keys, by the rules of these programs.

The rules follow the programs, not the writers of this project, so that a mistake in a writer is
found here. A1111 and ComfyUI, whose rules Forge uses, go through the names of the original Stable
Diffusion code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from merging.formats.key_names import kohya, ldm
from merging.formats.layer_tables import LayerTable, Names, Shape

KOHYA_SUFFIXES = {"lora_up.weight", "lora_down.weight", "alpha"}
# Full differences of weights and vectors, which diffusers does not read.
DIFFERENCE_SUFFIXES = {"diff", "diff_b", "w_norm", "b_norm"}
MAX_UNKNOWN_KEYS = {"Forge": 12}  # it refuses files with more unknown keys
WIDTH_SUFFIXES = {"lora_down.weight", "diff"}  # of tensors whose second size is the input width
TEXT_LAYERS, TIME_LAYER = ("_attn2_to_k", "_attn2_to_v"), "_time_emb_proj"
PEFT_SUFFIXES = {"lora_A.weight", "lora_B.weight"}
RESNET_NAMES = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "norm1": "in_layers_0",
    "norm2": "out_layers_0",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
OTHER_NAMES = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
}
CLIP_NAMES = (
    *("mlp.fc1", "mlp.fc2"),
    *(f"self_attn.{name}_proj" for name in ("k", "out", "q", "v")),
)
CLIP_LAYERS = 32  # that ComfyUI looks for; SD 1.x has 12


@dataclass(frozen=True)
class Blocks:
    """The sizes of a UNet's blocks that A1111 assumes."""

    resnets: int  # of an up block
    without_attention: tuple[str, ...]  # numbers of the up blocks without it


SD15 = Blocks(3, ("0",))


@dataclass(frozen=True)
class Program:
    """A program that loads adapters."""

    title: str
    names: Callable[[LayerTable], Names]  # stem of a key → module
    suffixes: frozenset[str]

    def loadable_layers(
        self, layers: Mapping[str, Mapping[str, str]], table: LayerTable
    ) -> list[str]:
        """The layers of a file (layer → role → key) that the program finds for all their keys."""
        names = self.names(table)
        return [
            layer
            for layer, keys in layers.items()
            if all(self._module(key, names) == layer for key in keys.values())
        ]

    def missing_count(self, shifts: Mapping[str, str], table: LayerTable) -> int:
        """Number of a file's vectors (parameter → key) that the program does not find."""
        names = self.names(table)
        return sum(
            self._module(key, names) != parameter.rpartition(".")[0]
            for parameter, key in shifts.items()
        )

    def _module(self, key: str, names: Names) -> str:
        """The module that the program finds for a key, "" for none."""
        for suffix in self.suffixes:
            if key.endswith(f".{suffix}"):
                return names.get(key.removesuffix(f".{suffix}"), "")
        return ""


def a1111(table: LayerTable) -> Names:
    """Splits a name by patterns, and looks the result up in the original code's model."""
    modules = {name.replace(".", "_"): module for name, module in ldm.modules(table).items()}
    blocks = _blocks(table)
    names = {}
    for name, module in _kohya_names(table).items():
        if re.match(r"lora_te_text_model_encoder_layers_\d+_", name):
            names[name] = module
        elif (place := original_name(name, blocks)) in modules:
            names[name] = modules[place]
    return names


def original_name(name: str, blocks: Blocks = SD15) -> str:
    """The original code's name of a UNet module, as A1111 builds it; "" if no pattern fits."""
    module = name.removeprefix("lora_unet_")
    if match := re.fullmatch(r"(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", module):
        side, block, kind, number, inner = match.groups()
        place = int(block) * blocks.resnets + int(number)
        start = f"input_blocks_{1 + place}" if side == "down" else f"output_blocks_{place}"
        return f"{start}_{int(kind == 'attentions')}_{RESNET_NAMES.get(inner, inner)}"
    if match := re.fullmatch(r"mid_block_(attentions|resnets)_(\d+)_(.+)", module):
        kind, number, inner = match.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block_{place}_{RESNET_NAMES.get(inner, inner)}"
    if match := re.fullmatch(r"down_blocks_(\d+)_downsamplers_0_conv", module):
        return f"input_blocks_{blocks.resnets * (1 + int(match[1]))}_0_op"
    if match := re.fullmatch(r"up_blocks_(\d+)_upsamplers_0_conv", module):
        place = blocks.resnets * (1 + int(match[1])) - 1
        return f"output_blocks_{place}_{1 if match[1] in blocks.without_attention else 2}_conv"
    return OTHER_NAMES.get(module, "")


def _blocks(table: LayerTable) -> Blocks:
    """The sizes that A1111 would assume for a base of another depth."""
    first = "unet.up_blocks.0."
    resnets = sum(layer.startswith(first) and "conv1" in layer for layer in table.shapes)
    has_attention = f"{first}attentions.0.proj_in" in table.shapes
    return Blocks(resnets, () if has_attention else ("0",))


def comfyui(table: LayerTable) -> Names:
    """Builds the keys that it looks for from the original code's modules.

    Of diffusers' names with dots it knows only those of attention with ``.processor.``.
    """
    names = {}
    for layer in ldm.modules(table).values():
        module = layer.removeprefix("unet.")
        names["lora_unet_" + module.replace(".", "_")] = layer
        dotted = module.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        names[f"unet.{dotted}"] = layer
    for block in range(CLIP_LAYERS):
        for name in CLIP_NAMES:
            module = f"text_model.encoder.layers.{block}.{name}"
            if f"text_encoder.{module}" in table.shapes:
                names["lora_te_" + module.replace(".", "_")] = f"text_encoder.{module}"
                names[f"text_encoder.{module}"] = f"text_encoder.{module}"
    return names


def invokeai(table: LayerTable) -> Names:
    """Compares with its modules' names with underscores; knows kohya's prefixes only."""
    return _kohya_names(table)


def diffusers(table: LayerTable) -> Names:
    """Knows kohya's names, and its own names with dots."""
    return _kohya_names(table) | {layer: layer for layer in table.shapes}


def misread_by_diffusers(layers: Iterable[str], style: str) -> list[str]:
    """The layers of a file's text encoder that diffusers would drop or fail on.

    It chooses the converter of a text encoder's keys by an ``out_proj`` among kohya's names, or by
    an attention layer among its own names; without these it takes the wrong converter.
    """
    encoder = [layer for layer in layers if layer.startswith("text_encoder.")]
    attention = [layer for layer in encoder if ".self_attn." in layer]
    if style != kohya.FAMILY:
        return [] if attention else encoder
    return [] if any(layer.endswith(".out_proj") for layer in attention) else attention


def width_for_invokeai(tensors: Mapping[str, Shape]) -> int | None:
    """The input width by which InvokeAI tells a kohya file's base model; None: it refuses the file.

    Of the first key, in the file's order, of a layer that reads the text or, which it takes for
    SDXL, the time.
    """
    for key, shape in tensors.items():
        name, _, ending = key.partition(".")
        if ending in WIDTH_SUFFIXES and _identifies_base(name):
            return shape[1]
    return None


def hidden_from_invokeai(layers: Iterable[str]) -> bool:
    """Whether InvokeAI would refuse a kohya file of these layers, or take it for SDXL."""
    names = sorted(kohya.key_stems(layer)[0] for layer in layers)
    first = next(filter(_identifies_base, names), "")
    return not first or first.endswith(TIME_LAYER)


def _identifies_base(name: str) -> bool:
    """Whether InvokeAI looks at this layer's width."""
    if name.startswith("lora_te_"):
        return "_self_attn_" in name
    return name.startswith("lora_unet_") and name.endswith((*TEXT_LAYERS, TIME_LAYER))


def _kohya_names(table: LayerTable) -> Names:
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    names = {}
    for module in table.modules:
        part, _, name = module.partition(".")
        names[prefixes[part] + name.replace(".", "_")] = module
    return names


PROGRAMS = (
    Program("A1111", a1111, frozenset(KOHYA_SUFFIXES | DIFFERENCE_SUFFIXES)),
    Program("Forge", comfyui, frozenset(KOHYA_SUFFIXES | PEFT_SUFFIXES | DIFFERENCE_SUFFIXES)),
    Program("ComfyUI", comfyui, frozenset(KOHYA_SUFFIXES | PEFT_SUFFIXES | DIFFERENCE_SUFFIXES)),
    Program("InvokeAI", invokeai, frozenset(KOHYA_SUFFIXES | DIFFERENCE_SUFFIXES)),
    Program("diffusers", diffusers, frozenset(KOHYA_SUFFIXES | PEFT_SUFFIXES)),
)
