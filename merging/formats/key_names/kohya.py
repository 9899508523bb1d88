"""kohya's key names: module names with underscores, as in LyCORIS and most trainers."""

from __future__ import annotations

from merging.formats.key_names import ldm
from merging.formats.layer_tables import LayerTable, Names, spellings

FAMILY = "kohya"
# diffusers' exporter and a few trainers write lora_te1_ for the one text encoder of SD 1.x; kohya's
# OFT has another prefix, and so has LyCORIS if it wraps a model without a trainer (SimpleTuner).
PREFIXES = {
    "unet": ("lora_unet_", "lycoris_", "oft_unet_"),
    "text_encoder": ("lora_te_", "lora_te1_", "lycoris_"),
}


def key_stems(module: str) -> list[str]:
    """All names of a module in keys, without the suffix; all loaders know the first one."""
    stems = []
    for spelling in spellings(module):
        part, _, name = spelling.partition(".")
        stems += [prefix + name.replace(".", "_") for prefix in PREFIXES[part]]
    return stems


def names(table: LayerTable) -> Names:
    """Key stem → module, with the names of the original Stable Diffusion code (sgm) too."""
    modules = {name: module for module in table.modules for name in key_stems(module)}
    for original, module in ldm.modules(table).items():
        modules |= {prefix + original.replace(".", "_"): module for prefix in PREFIXES["unet"]}
    return modules
