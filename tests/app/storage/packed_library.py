"""A library with two LoRAs that are nowhere else: what the tests of its packs share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from app.jobs.inspect import card
from app.schemas.card import Card
from app.schemas.pack import PackOffer
from app.service import Studio
from merging import formats
from merging.adapter import Adapter

NAMES = ["sks-cat", "vxz-pizza"]


def other_bytes(paths: Iterable[Path], folder: Path) -> list[Card]:
    """The LoRAs in other bytes than they are bundled with."""
    found = []
    for path in paths:
        adapter = formats.read(path)
        formats.write_kohya(adapter, folder / path.name, torch.float32, adapter.metadata)
        found.append(replace(card(folder / path.name, path.name), captions=("sofa",)))
    return found


def pack_of(studio: Studio, session: str, hashes: Sequence[str], keep: float = 0.99) -> PackOffer:
    """A pack of these files, which is not in the library yet."""
    *shares, offer = studio.offer_pack(session, hashes, keep)
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert isinstance(offer, PackOffer)
    return offer


def offered(studio: Studio, session: str) -> PackOffer:
    """A pack of all files of the library."""
    entries = studio.library(session).search()
    return pack_of(studio, session, [entry.sha256 for entry in reversed(entries)])


def files(studio: Studio) -> list[Path]:
    assert studio.settings.home
    return sorted((studio.settings.home / "library").glob("*.safetensors"))


def loras(studio: Studio, session: str) -> dict[str, Adapter]:
    """Every LoRA of the library, read."""
    entries = studio.library(session).search()
    return {entry.name: formats.read(studio.lora(session, entry.sha256).path) for entry in entries}


def relative_error(adapter: Adapter, before: Adapter) -> float:
    """‖Δ' − Δ‖ / ‖Δ‖ over all layers."""
    lost = [
        (adapter.layers[name].delta() - layer.delta()).square().sum()
        for name, layer in before.layers.items()
    ]
    whole = sum(layer.energy for layer in before.layers.values())
    return float(sum(lost) / whole) ** 0.5
