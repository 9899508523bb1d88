"""A pack that was dropped on the page: several LoRAs in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OpenedPack:
    """A pack and what is in it."""

    path: Path  # the visit's own copy
    name: str  # the user's file name
    members: tuple[tuple[str, float], ...]  # names, and what the pack loses of each: ‖Δ' − Δ‖ / ‖Δ‖
