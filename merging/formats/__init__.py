"""Bytes ↔ canonical form: every family of LoRA files for Stable Diffusion 1.x that users have.

Reading a header does not need torch, which takes seconds to import. So the modules that read and
write weights are imported when one of their names is first used, and the families' functions that
calculate import torch themselves.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from merging.formats.embeddings import read_embedding_file, read_embeddings
from merging.formats.layer_tables import TABLES, LayerTable, table
from merging.formats.overview import Overview, overview

if TYPE_CHECKING:
    from merging.formats.reader import read
    from merging.formats.sparse_writer import ALL_WRITERS, write_shira
    from merging.formats.verify import Written
    from merging.formats.writer import (
        DTYPES,
        WRITERS,
        adapter_in_format,
        write_diffusers,
        write_embedding,
        write_full,
        write_kohya,
    )

__all__ = [
    "ALL_WRITERS",
    "DTYPES",
    "TABLES",
    "WRITERS",
    "LayerTable",
    "Overview",
    "Written",
    "adapter_in_format",
    "overview",
    "read",
    "read_embedding_file",
    "read_embeddings",
    "table",
    "write_diffusers",
    "write_embedding",
    "write_full",
    "write_kohya",
    "write_shira",
]
_LAZY = {
    "read": "reader",
    "Written": "verify",
    "ALL_WRITERS": "sparse_writer",
    "write_shira": "sparse_writer",
}  # name → its module; all others: writer


def __getattr__(name: str) -> Any:
    """A name of `__all__` that is imported at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{__name__}.{_LAZY.get(name, 'writer')}:{name}")
