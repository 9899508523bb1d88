"""What a FILE of the command line means: an adapter, and how strong each of its parts is to be.

``FILE@0.8:te=0.5:unet=1:lbw=MIDD`` has a strength for all of it, then one for the text encoder and
one for the UNet in its place, then weights block by block: a preset of merging/block_weights.py or
its 12, 17, 20 or 26 numbers with commas. Each may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merging.adapter import Adapter
from merging.block_weights import block_weights
from merging.formats import read
from merging.io.hub import resolve_file
from merging.request import Source

if TYPE_CHECKING:
    from merging.diffusion.base import Base  # which imports diffusers


@dataclass(frozen=True)
class Input:
    """One FILE, as written: on the disk, or a place on the Hub."""

    path: Path
    strength: float = 1.0
    text_encoder: float = 1.0  # times the strength
    unet: float = 1.0  # times the strength
    blocks: Mapping[str, float] | None = None  # times all of these

    def source(self, base: Base) -> Source:
        """The adapter, read for a base and fetched where it is on the Hub, with these strengths."""
        file = resolve_file(self.path)
        return self.of(read(file.path, base.table, file.name, base.weight), file.origin)

    def of(self, adapter: Adapter, origin: str = "") -> Source:
        """An adapter that was read already, with these strengths."""
        return Source(
            adapter,
            self.strength,
            text_encoder=self.text_encoder,
            unet=self.unet,
            blocks=self.blocks,
            origin=origin,
        )


def weighed(
    path: Path,
    strength: float = 1.0,
    text_encoder: float | None = None,
    unet: float | None = None,
    lbw: str | None = None,
) -> Input:
    """A file with strengths as people say them: those of the parts stand in the whole's place.

    ``lbw`` is a preset or a list of numbers, None leaves all blocks as they are. Raises MergeError
    for any other.
    """
    te, unet = (strength if own is None else own for own in (text_encoder, unet))
    blocks = None if lbw is None else block_weights(lbw)
    whole = strength or max(te, unet, key=abs)
    if not whole:
        return Input(path, 0.0, blocks=blocks)
    return Input(path, whole, te / whole, unet / whole, blocks)
