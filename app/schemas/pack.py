"""Packs, several LoRAs in one file: one that was dropped on the page, or made of library files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OpenedPack:
    """A pack and what is in it."""

    path: Path  # the visit's own copy
    name: str  # the user's file name
    members: tuple[tuple[str, float], ...]  # names, and what the pack loses of each: ‖Δ' − Δ‖ / ‖Δ‖


@dataclass(frozen=True)
class PackedFile:
    """A file of the library and what a pack has of it."""

    sha256: str  # of the file
    unpacked: str  # SHA-256 of the file that the pack gives back
    name: str  # in the pack
    error: float  # ‖Δ' − Δ‖ / ‖Δ‖


@dataclass(frozen=True)
class PackOffer:
    """A pack that can take the place of its files in the library."""

    path: Path  # in the visit
    bytes: int
    before: int  # bytes of the files
    members: tuple[PackedFile, ...]
