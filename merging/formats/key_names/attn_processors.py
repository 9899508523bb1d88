"""diffusers files of 2023, before PEFT: attention processors own the pairs, and alpha is unknown.

Three spellings occur in the wild: ``attn1.processor.to_q_lora.down`` (the oldest, with and without
``unet.`` in front), ``to_q.lora.down``, and ``q_proj.lora_linear_layer.down``.
"""

from __future__ import annotations

from merging.formats.layer_tables import LayerTable, Names, Role, spellings

FAMILY = "diffusers (attention processors)"
ROLES: dict[str, Role] = {"down.weight": "down", "up.weight": "up"}
# What the last part of an attention layer's name was called when a processor owned the pair.
PROCESSOR_NAMES = {
    ".to_q": "to_q_lora",
    ".to_k": "to_k_lora",
    ".to_v": "to_v_lora",
    ".to_out.0": "to_out_lora",
    ".q_proj": "to_q_lora",
    ".k_proj": "to_k_lora",
    ".v_proj": "to_v_lora",
    ".out_proj": "to_out_lora",
}


def spelled(layer: str) -> list[str]:
    """Every spelling of a layer's pair, without role."""
    found = []
    for module in dict.fromkeys((*spellings(layer), layer.removeprefix("unet."))):
        found += [f"{module}.lora", f"{module}.lora_linear_layer", *_processor_names(module)]
    return found


def _processor_names(module: str) -> list[str]:
    for ending, old in PROCESSOR_NAMES.items():
        if module.endswith(ending):
            owner = module.removesuffix(ending)
            return [f"{owner}.processor.{old}", f"{owner}.{old}"]
    return []


def names(table: LayerTable) -> Names:
    """Every name of every layer's pair."""
    return {name: layer for layer in table.shapes for name in spelled(layer)}
