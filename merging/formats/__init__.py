"""Bytes ↔ canonical form: every family of LoRA files for Stable Diffusion 1.x that users have."""

from merging.formats.embeddings import alone as embeddings_alone
from merging.formats.embeddings import read_embeddings
from merging.formats.layers import TABLES, LayerTable, table
from merging.formats.overview import Overview, overview
from merging.formats.reader import read
from merging.formats.verified import Written
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
