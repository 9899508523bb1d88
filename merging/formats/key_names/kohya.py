"""kohya's key names: module names with underscores, as in LyCORIS and most trainers."""

from __future__ import annotations

from merging.formats.key_names import ldm
from merging.formats.layer_tables import LayerTable, Names, Role, spellings

FAMILY = "kohya"
# diffusers' exporter and a few trainers write lora_te1_ for the one text encoder of SD 1.x; kohya's
# OFT has another prefix, and so has LyCORIS if it wraps a model without a trainer (SimpleTuner).
PREFIXES = {
    "unet": ("lora_unet_", "lycoris_", "oft_unet_"),
    "text_encoder": ("lora_te_", "lora_te1_", "lycoris_"),
}
# The suffix is the role, except for these three.
ROLES: dict[str, Role] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    **{
        role: role
        for role in (
            *("alpha", "scalar", "dora_scale"),
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
            *("lokr_t1", "lokr_t2"),
            *("diff", "diff_b", "w_norm", "b_norm"),
            *("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"),
            *("weight", "on_input"),
            *("oft_blocks", "rescale"),
        )
    },
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
