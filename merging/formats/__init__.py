"""Bytes ↔ canonical form: every family of LoRA files for Stable Diffusion 1.x that users have.

What a header tells is told without torch, which takes seconds to import. So the modules that do
nothing but read and write weights are imported when one of their names is first asked for, and the
families' functions that calculate import torch themselves.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from merging.formats.embeddings import alone as embeddings_alone
from merging.formats.embeddings import read_embeddings
from merging.formats.layer_tables import TABLES, LayerTable, table
from merging.formats.overview import Overview, overview

if TYPE_CHECKING:
    from merging.formats.reader import read
    from merging.formats.verify import Written
    from merging.formats.writer import (
        DTYPES,
        WRITERS,
        held,
        write_diffusers,
        write_embedding,
        write_full,
        write_kohya,
    )

__all__ = [
    "DTYPES",
    "TABLES",
    "WRITERS",
    "LayerTable",
    "Overview",
    "Written",
    "embeddings_alone",
    "held",
    "overview",
    "read",
    "read_embeddings",
    "table",
    "write_diffusers",
    "write_embedding",
    "write_full",
    "write_kohya",
]
_LATE = {"read": "reader", "Written": "verify"}  # name -> its module; all others': writer


def __getattr__(name: str) -> Any:
    """A name of `__all__` that is not here yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{__name__}.{_LATE.get(name, 'writer')}:{name}")
