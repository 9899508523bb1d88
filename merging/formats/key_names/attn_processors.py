"""diffusers files of 2023, before PEFT: the factors belong to attention processors, without alpha.

Three spellings occur: ``attn1.processor.to_q_lora.down`` (the oldest, with and without
``unet.`` in front), ``to_q.lora.down``, and ``q_proj.lora_linear_layer.down``.
"""

from __future__ import annotations

from merging.formats.layer_tables import LayerTable, Names, spellings

FAMILY = "diffusers (attention processors)"
# End of an attention layer's name → its end in these files.
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


def key_stems(layer: str) -> list[str]:
    """All names of a layer in keys, without the suffix."""
    stems = []
    for module in dict.fromkeys((*spellings(layer), layer.removeprefix("unet."))):
        stems += [f"{module}.lora", f"{module}.lora_linear_layer", *_processor_names(module)]
    return stems


def _processor_names(module: str) -> list[str]:
    for ending, old in PROCESSOR_NAMES.items():
        if module.endswith(ending):
            parent = module.removesuffix(ending)
            return [f"{parent}.processor.{old}", f"{parent}.{old}"]
    return []


def names(table: LayerTable) -> Names:
    """Key stem → layer, for all layers of a base."""
    return {name: layer for layer in table.shapes for name in key_stems(layer)}
