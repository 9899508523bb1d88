"""What a FILE of the command line means: an adapter, and how strong each of its parts is to be.

``FILE@0.8:te=0.5:unet=1:lbw=MIDD`` has a strength for all of it, then one for the text encoder and
one for the UNet in its place, then weights block by block: a preset of merging/block_weights.py or
its 12, 17, 20 or 26 numbers with commas. Each may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merging.adapter import Adapter
from merging.block_weights import block_weights
from merging.diffusion.base import Base
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import read, read_embeddings
from merging.io.hub import found
from merging.request import Source

NAMED = ("te", "unet", "lbw")
SETTINGS = re.compile(r"(?:[-+.\d]|\w+=)[^/\\]*")


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
        file = found(self.path)
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


def parsed(text: str) -> Input:
    """FILE, or FILE@ and its strengths; an @ that none follow belongs to the name."""
    file, _, words = text.rpartition("@")
    first, *rest = words.split(":")
    if not (file and SETTINGS.fullmatch(words)) or words.endswith(".safetensors"):
        return Input(Path(text))
    if "=" not in first and not _is_number(first):
        return Input(Path(text))
    named = _named(text, rest if "=" not in first else [first, *rest])
    common = 1.0 if "=" in first else float(first)
    te, unet = (_number(text, named[key]) if key in named else None for key in ("te", "unet"))
    return weighed(Path(file), common, te, unet, named.get("lbw"))


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


def words(texts: Sequence[str], base: Base) -> tuple[Embedding, ...]:
    """FILE or FILE=WORD each: textual inversions, under their own words or another."""
    found_words: list[Embedding] = []
    for text in texts:
        file, equals, word = ("", "", "") if Path(text).exists() else text.rpartition("=")
        place = found(Path(file if equals else text))
        read_words = read_embeddings(place.path, base.table, place.name, word.strip())
        found_words += [replace(each, origin=place.origin) for each in read_words]
    return tuple(found_words)


def _named(text: str, words: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in NAMED or key in named:
            reason = "is given twice" if key in named else "is not known"
            raise MergeError(
                f"{text}: “{word}” {reason}; after @ come a strength and te=, unet= and lbw=, "
                "such as FILE@0.8:te=0.5:lbw=MIDD."
            )
        named[key] = value
    return named


def _number(text: str, word: str) -> float:
    if not _is_number(word):
        raise MergeError(f"{text}: “{word}” is no number; write a strength such as 0.8.")
    return float(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
