"""The spellings of modules' names in keys: one row for each program's convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from merging.formats.key_names import attn_processors, kohya, ldm, peft
from merging.formats.layer_tables import LayerTable, Names

# Title → the names of a base's modules; a name never means two modules.
SPELLINGS: dict[str, Callable[[LayerTable], Names]] = {
    kohya.FAMILY: kohya.names,
    peft.FAMILY: peft.names,
    attn_processors.FAMILY: attn_processors.names,
    ldm.FAMILY: ldm.names,
    "OMI": ldm.omi_names,
    "original code": ldm.bare_names,
}


@lru_cache(maxsize=8)  # more than the bases that are open at a time; a table takes 20 ms
def module_names(table: LayerTable) -> Mapping[str, tuple[str, str]]:
    """Start of a key → title of its spelling, and module: for all modules of a base."""
    return {
        name: (title, module)
        for title, names in SPELLINGS.items()
        for name, module in names(table).items()
    }
