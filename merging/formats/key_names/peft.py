"""diffusers files with PEFT, and PEFT's own files: names with dots."""

from __future__ import annotations

from merging.formats.layer_tables import LayerTable, Names, spellings
from merging.formats.peft_settings import PEFT_PREFIX

FAMILY = "diffusers (PEFT)"


def names(table: LayerTable) -> Names:
    """Key stem → module, as diffusers and as PEFT itself name them."""
    names = {}
    for name in table.modules:
        for spelling in spellings(name):
            part, _, module = spelling.partition(".")
            for prefix in (f"{part}.", f"{part}.{PEFT_PREFIX}", PEFT_PREFIX, ""):
                names[prefix + module] = name
    return names
