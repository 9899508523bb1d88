"""Which layers of the base other programs find for a file's keys: their rules, not our spelling.

Each rule follows its program's own way from a key to a module, so that a slip in the writers does
not slip through here as well. The way of A1111 goes through the names of the original Stable
Diffusion code, and so does ComfyUI's, which Forge has taken over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from merging.formats.key_names import kohya, ldm
from merging.formats.layer_tables import LayerTable, Names

KOHYA = {"lora_up.weight", "lora_down.weight", "alpha"}
# Whole differences, of weights and of vectors, which diffusers does not know.
WHOLE = {"diff", "diff_b", "w_norm", "b_norm"}
MOST_UNKNOWN = {"Forge": 12}  # keys; it refuses files that have more
PEFT = {"lora_A.weight", "lora_B.weight"}
RESNET = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "norm1": "in_layers_0",
    "norm2": "out_layers_0",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
}
CLIP = (
    *("mlp.fc1", "mlp.fc2"),
    *(f"self_attn.{name}_proj" for name in ("k", "out", "q", "v")),
)
CLIP_LAYERS = 32  # as many as ComfyUI looks for; SD 1.x has 12


@dataclass(frozen=True)
class Blocks:
    """The blocks of a UNet, as far as A1111's patterns know them by heart."""

    deep: int  # resnets of a block on the way up
    bare: tuple[str, ...]  # numbers of the blocks on the way up without attention


SD15 = Blocks(3, ("0",))


@dataclass(frozen=True)
class Program:
    """One program that loads adapters."""

    title: str
    names: Callable[[LayerTable], Names]  # what a key has before its suffix → module
    suffixes: frozenset[str]

    def finds(self, layers: Mapping[str, Mapping[str, str]], table: LayerTable) -> list[str]:
        """Those of a file's layers (layer → role → key) whose every key ends up on that layer."""
        names = self.names(table)
        return [
            layer
            for layer, keys in layers.items()
            if all(self._place(key, names) == layer for key in keys.values())
        ]

    def misses(self, shifts: Mapping[str, str], table: LayerTable) -> int:
        """How many of a file's vectors (parameter → key) it puts nowhere."""
        names = self.names(table)
        return sum(
            self._place(key, names) != parameter.rpartition(".")[0]
            for parameter, key in shifts.items()
        )

    def _place(self, key: str, names: Names) -> str:
        """The module that a key is put on, "" for none."""
        for suffix in self.suffixes:
            if key.endswith(f".{suffix}"):
                return names.get(key.removesuffix(f".{suffix}"), "")
        return ""


def a1111(table: LayerTable) -> Names:
    """Takes a name apart by patterns, and looks the outcome up in the original code's model."""
    modules = {name.replace(".", "_"): module for name, module in ldm.modules(table).items()}
    blocks = _blocks(table)
    found = {}
    for name, module in _underscored(table).items():
        if re.match(r"lora_te_text_model_encoder_layers_\d+_", name):
            found[name] = module
        elif (place := original(name, blocks)) in modules:
            found[name] = modules[place]
    return found


def original(name: str, blocks: Blocks = SD15) -> str:
    """The original code's name of a UNet module, as A1111 finds it; "" where no pattern fits."""
    module = name.removeprefix("lora_unet_")
    if found := re.fullmatch(r"(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", module):
        side, block, kind, number, inner = found.groups()
        place = int(block) * blocks.deep + int(number)
        start = f"input_blocks_{1 + place}" if side == "down" else f"output_blocks_{place}"
        return f"{start}_{int(kind == 'attentions')}_{RESNET.get(inner, inner)}"
    if found := re.fullmatch(r"mid_block_(attentions|resnets)_(\d+)_(.+)", module):
        kind, number, inner = found.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block_{place}_{RESNET.get(inner, inner)}"
    if found := re.fullmatch(r"down_blocks_(\d+)_downsamplers_0_conv", module):
        return f"input_blocks_{blocks.deep * (1 + int(found[1]))}_0_op"
    if found := re.fullmatch(r"up_blocks_(\d+)_upsamplers_0_conv", module):
        place = blocks.deep * (1 + int(found[1])) - 1
        return f"output_blocks_{place}_{1 if found[1] in blocks.bare else 2}_conv"
    return ENDS.get(module, "")


def _blocks(table: LayerTable) -> Blocks:
    """What A1111 counts on, for bases of other depth."""
    deep = sum(layer.startswith("unet.up_blocks.0.") and "conv1" in layer for layer in table.shapes)
    attended = "unet.up_blocks.0.attentions.0.proj_in" in table.shapes
    return Blocks(deep, () if attended else ("0",))


def comfyui(table: LayerTable) -> Names:
    """Goes from the original code's modules to the keys that it looks for in a file.

    Of diffusers' dotted names it knows those of attention with ``.processor.`` alone.
    """
    found = {}
    for layer in ldm.modules(table).values():
        module = layer.removeprefix("unet.")
        found["lora_unet_" + module.replace(".", "_")] = layer
        dotted = module.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        found[f"unet.{dotted}"] = layer
    for block in range(CLIP_LAYERS):
        for name in CLIP:
            module = f"text_model.encoder.layers.{block}.{name}"
            if f"text_encoder.{module}" in table.shapes:
                found["lora_te_" + module.replace(".", "_")] = f"text_encoder.{module}"
                found[f"text_encoder.{module}"] = f"text_encoder.{module}"
    return found


def invokeai(table: LayerTable) -> Names:
    """Compares with the names of its own modules, joined by underscores; only kohya's prefixes."""
    return _underscored(table)


def diffusers(table: LayerTable) -> Names:
    """kohya's names in all keys, or its own."""
    return _underscored(table) | {layer: layer for layer in table.shapes}


def misread(layers: Iterable[str], style: str) -> list[str]:
    """Those of the text encoder that diffusers would drop or fail on, of all in one file.

    Which of its converters a text encoder's keys need it tells by any ``out_proj`` among kohya's
    names, by any of attention among its own; without one of these it takes the wrong converter.
    """
    own = [layer for layer in layers if layer.startswith("text_encoder.")]
    attention = [layer for layer in own if ".self_attn." in layer]
    if style != kohya.FAMILY:
        return [] if attention else own
    return [] if any(layer.endswith(".out_proj") for layer in attention) else attention


def _underscored(table: LayerTable) -> Names:
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
    found = {}
    for module in table.modules:
        part, _, name = module.partition(".")
        found[prefixes[part] + name.replace(".", "_")] = module
    return found


PROGRAMS = (
    Program("A1111", a1111, frozenset(KOHYA | WHOLE)),
    Program("Forge", comfyui, frozenset(KOHYA | PEFT | WHOLE)),
    Program("ComfyUI", comfyui, frozenset(KOHYA | PEFT | WHOLE)),
    Program("InvokeAI", invokeai, frozenset(KOHYA | WHOLE)),
    Program("diffusers", diffusers, frozenset(KOHYA | PEFT)),
)
