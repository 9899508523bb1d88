"""What lies beside a LoRA: Civitai's or A1111's file with its trigger words, and its picture.

NAME.civitai.info (Civitai Helper: the answer of Civitai's API on a version), NAME.json (A1111's
user metadata), NAME.metadata.json (LoRA Manager), NAME.preview.png and NAME.png, also as .jpg,
.jpeg or .webp, belong to NAME.safetensors. A file whose name is another one is told by the SHA-256
of its LoRA, if it has that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from app.schemas.card import LONGEST_WORD, MOST_WORDS, Card
from app.schemas.thumbnail import FORMATS, MAX_PIXELS, thumbnail_of
from merging.base_models import SD15, base_model
from merging.errors import MergeError

TEXTS = (".civitai.info", ".metadata.json", ".json")
PICTURE = re.compile(r"(?:\.preview)?\.(?:png|jpe?g|webp)$", re.IGNORECASE)
MAX_TEXT = 4 << 20  # bytes
SD1 = re.compile(r"sd ?1", re.IGNORECASE)  # "SD 1.5", "SD1", "SD 1.5 LCM"
UNKNOWN = {"other", "unknown"}


@dataclass(frozen=True)
class Sidecar:
    """What one file says of a LoRA."""

    name: str  # of the file itself
    stem: str  # the LoRA's name by this file's name, "" where only the hash tells
    hashes: frozenset[str] = frozenset()  # SHA-256 of the LoRA, in small letters
    words: tuple[str, ...] = ()  # trigger words, the first ones the most important
    base: str = ""  # the base model, as Civitai or A1111 calls it
    title: str = ""
    thumbnail: str = ""  # a data URL

    def fits(self, card: Card) -> bool:
        """Whether it lies beside this LoRA."""
        return card.sha256 in self.hashes or self.stem.lower() == card.name.lower()


def is_sidecar(path: Path) -> bool:
    """Whether the name is that of a file with trigger words."""
    return path.name.lower().endswith(TEXTS)


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture."""
    return bool(PICTURE.search(path.name))


def read_sidecar(path: Path) -> Sidecar:
    """What the file says; MergeError if it is none of those above."""
    if is_picture(path):
        return Sidecar(path.name, PICTURE.sub("", path.name), thumbnail=_thumbnail(path))
    stem = next(path.name[: -len(it)] for it in TEXTS if path.name.lower().endswith(it))
    data = _read_object(path)
    version = _object(data.get("civitai")) or data
    words = _texts(version.get("trainedWords")) or _texts(data.get("activation text"))
    bases = (version.get("baseModel"), data.get("base_model"), data.get("sd version"))
    base = next((text for text in bases if isinstance(text, str) and text), "")
    titles = (_object(version.get("model")).get("name"), version.get("name"))
    title = " ".join(text for text in titles if isinstance(text, str))
    if not (words or base or title):
        raise MergeError(
            f"{path.name} says nothing of a LoRA: a .civitai.info file, A1111's .json file or a "
            "picture beside a LoRA can be used."
        )
    return Sidecar(path.name, stem, _hashes(data, version), words, base[:60], title[:120])


def described(card: Card, sidecars: Iterable[Sidecar]) -> Card:
    """The card with what lies beside its LoRA; what the LoRA's own header says goes first."""
    for sidecar in sidecars:
        if sidecar.fits(card):
            card = _with_sidecar(card, sidecar)
    return card


def unused(sidecars: Sequence[Sidecar], cards: Sequence[Card]) -> list[str]:
    """A sentence for every sidecar of a LoRA that is not here."""
    return [
        f"{sidecar.name} belongs to no LoRA here: drop it together with {sidecar.stem}.safetensors."
        for sidecar in sidecars
        if sidecar.stem and not any(map(sidecar.fits, cards))
    ]


def _with_sidecar(card: Card, sidecar: Sidecar) -> Card:
    words = tuple(dict.fromkeys([*filter(None, [card.trigger]), *sidecar.words, *card.words]))
    warnings = tuple(dict.fromkeys([*card.warnings, *_doubts(card, sidecar)]))
    source = f"{sidecar.title} ({sidecar.base})" if sidecar.base else sidecar.title
    return replace(
        card,
        trigger=card.trigger or next(iter(sidecar.words), ""),
        words=words[:MOST_WORDS],
        warnings=warnings,
        thumbnail=sidecar.thumbnail or card.thumbnail,
        sidecar=source.strip() or card.sidecar,
    )


def _doubts(card: Card, sidecar: Sidecar) -> list[str]:
    """A sentence where it names another base model than the file's layers do."""
    base = sidecar.base
    if not base or base.lower() in UNKNOWN or card.base != SD15.name or SD1.match(base):
        return []
    return [
        f"{sidecar.name} says that it was made for {base}, but its layers are those of "
        f"{base_model(card.base).title}."
    ]


def _hashes(data: dict[str, Any], version: dict[str, Any]) -> frozenset[str]:
    files = version.get("files")
    listed = [_object(file) for file in files] if isinstance(files, list) else []
    hashes = [data.get("sha256"), *(_object(file.get("hashes")).get("SHA256") for file in listed)]
    return frozenset(text.lower() for text in hashes if isinstance(text, str) and text)


def _texts(value: object) -> tuple[str, ...]:
    """Trigger words: parts between commas, of a text or of a list of texts."""
    texts = value if isinstance(value, list) else [value]
    parts = [part for text in texts if isinstance(text, str) for part in text.split(",")]
    words = (" ".join(part.split()) for part in parts)
    return tuple(dict.fromkeys(word for word in words if 0 < len(word) <= LONGEST_WORD))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_TEXT:
        raise MergeError(f"{path.name} is larger than {MAX_TEXT >> 20} MB: it describes no LoRA.")
    try:
        return _object(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise MergeError(f"{path.name} cannot be read: it is no JSON file.") from error


def _thumbnail(path: Path) -> str:
    """A small picture as a data URL; MergeError for what is no picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MergeError(f"{path.name} is too large for a picture of a LoRA.")
            return thumbnail_of(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MergeError(f"{path.name} is no picture that can be read.") from error
