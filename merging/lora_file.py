"""What FILE@strengths of the command line means: an adapter and the strengths of its parts.

``FILE@0.8:te=0.5:unet=1:lbw=MIDD`` has a strength for the whole LoRA, strengths for text encoder
and UNet that replace it there, and block weights: a preset of merging/block_weights.py or its 12,
17, 20 or 26 numbers with commas. All of them are optional. FILE may be PACK.safetensors#NAME, one
LoRA of a pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merging.adapter import Adapter
from merging.block_weights import block_weights
from merging.errors import MergeError
from merging.formats import LayerTable, overview, read
from merging.io.files import file_sha256
from merging.io.hub import resolve_file
from merging.packs.pack_file import (
    packed_place,
    packed_sha256,
    read_pack_header,
    read_packed,
)
from merging.request import Source

if TYPE_CHECKING:
    from merging.diffusion.base import Base  # which imports diffusers


@dataclass(frozen=True)
class LoraInput:
    """One FILE with its strengths: a path on the disk, or a place on the Hub."""

    path: Path
    strength: float = 1.0
    text_encoder: float = 1.0  # times the strength
    unet: float = 1.0  # times the strength
    blocks: Mapping[str, float] | None = None  # times all of these

    def source(self, base: Base | None, table: LayerTable | None = None) -> Source:
        """Read the adapter for a base, downloaded if it is on the Hub, with these strengths.

        Without a base it is read for ``table``, or for the base model that it fits.
        """
        fitting, weights = (base.table, base.weight) if base else (table, None)
        if packed := packed_place(self.path):
            pack, name = resolve_file(packed[0]), packed[1]
            return self.source_of(read_packed(pack.path, name, fitting, pack.name), pack.origin)
        file = resolve_file(self.path)
        return self.source_of(read(file.path, fitting, file.name, weights), file.origin)

    @property
    def needs_base(self) -> bool:
        """Whether its change depends on the base model's weights, by its header."""
        if packed_place(self.path):  # was computed when it was packed
            return False
        file = resolve_file(self.path)
        return overview(file.path, name=file.name).needs_base

    def source_of(self, adapter: Adapter, origin: str = "") -> Source:
        """An adapter that has been read, with these strengths."""
        return Source(
            adapter,
            self.strength,
            text_encoder=self.text_encoder,
            unet=self.unet,
            blocks=self.blocks,
            origin=origin,
        )


def inputs_in(path: Path) -> dict[str, Path]:
    """What recipes can name of a file: SHA-256 → its path, or PACK#NAME for each LoRA of a pack."""
    sha256 = file_sha256(path)
    try:
        loras = read_pack_header(path).loras
    except MergeError:  # no pack, but perhaps a LoRA
        return {sha256: path}
    return {packed_sha256(sha256, lora.name): Path(f"{path}#{lora.name}") for lora in loras}


def packed_since(path: Path) -> dict[str, tuple[Path, float]]:
    """SHA-256 of the files that a pack was made of → PACK#NAME and its relative error."""
    try:
        loras = read_pack_header(path).loras
    except MergeError:
        return {}
    return {lora.entry["sha256"]: (Path(f"{path}#{lora.name}"), lora.error) for lora in loras}


def lora_input(
    path: Path,
    strength: float = 1.0,
    text_encoder: float | None = None,
    unet: float | None = None,
    lbw: str | None = None,
) -> LoraInput:
    """A file with strengths as on the command line: those of the parts replace the common one.

    ``lbw`` is a preset or a list of block weights; None means 1 for all blocks. Raises MergeError
    for anything else.
    """
    te, unet = (strength if part is None else part for part in (text_encoder, unet))
    blocks = None if lbw is None else block_weights(lbw)
    whole = strength or max(te, unet, key=abs)
    if not whole:
        return LoraInput(path, 0.0, blocks=blocks)
    return LoraInput(path, whole, te / whole, unet / whole, blocks)
