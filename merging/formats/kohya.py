"""kohya-ss files, LoRA and LoCon: underscored names, and an alpha beside every pair."""

from __future__ import annotations

from merging.formats.layers import LayerTable, Role, Slots, spellings

FAMILY = "kohya"
# diffusers' exporter and a few trainers write lora_te1_ for the one text encoder of SD 1.x.
PREFIXES = {"unet": ("lora_unet_",), "text_encoder": ("lora_te_", "lora_te1_")}
ROLES: dict[str, Role] = {"lora_down.weight": "down", "lora_up.weight": "up", "alpha": "alpha"}


def names(layer: str) -> list[str]:
    """Every spelling of a layer; the first is the one that all loaders know."""
    found = []
    for spelling in spellings(layer):
        part, _, module = spelling.partition(".")
        found += [prefix + module.replace(".", "_") for prefix in PREFIXES[part]]
    return found


def slots(table: LayerTable) -> Slots:
    """Every key that a kohya file for this base can have."""
    return {
        f"{name}.{suffix}": (layer, role)
        for layer in table.shapes
        for name in names(layer)
        for suffix, role in ROLES.items()
    }
