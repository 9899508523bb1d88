"""FILE@strength on the command line: parsed into a file and its strengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import LayerTable, read_embeddings
from merging.io.hub import resolve_file
from merging.lora_file import LoraInput, lora_input

PART_NAMES = ("te", "unet", "lbw")
STRENGTHS = re.compile(r"(?:[-+.\d]|\w+=)[^/\\]*")


def parse_file_argument(text: str) -> LoraInput:
    """Read FILE or FILE@strengths; an @ with no strengths behind it belongs to the file's name."""
    file, _, strengths = text.rpartition("@")
    first, *rest = strengths.split(":")
    if not (file and STRENGTHS.fullmatch(strengths)) or strengths.endswith(".safetensors"):
        return LoraInput(Path(text))
    if "=" not in first and not _is_number(first):
        return LoraInput(Path(text))
    parts = _parts_by_name(text, rest if "=" not in first else [first, *rest])
    strength = 1.0 if "=" in first else float(first)
    te, unet = (_number(text, parts[key]) if key in parts else None for key in ("te", "unet"))
    return lora_input(Path(file), strength, te, unet, parts.get("lbw"))


def embeddings_of(texts: Sequence[str], table: LayerTable) -> tuple[Embedding, ...]:
    """Textual inversions from arguments FILE or FILE=WORD; WORD replaces the file's own word."""
    embeddings: list[Embedding] = []
    for text in texts:
        file, equals, word = ("", "", "") if Path(text).exists() else text.rpartition("=")
        resolved = resolve_file(Path(file if equals else text))
        in_file = read_embeddings(resolved.path, table, resolved.name, word.strip())
        embeddings += [replace(embedding, origin=resolved.origin) for embedding in in_file]
    return tuple(embeddings)


def _parts_by_name(text: str, assignments: list[str]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in assignments:
        key, equals, value = part.partition("=")
        if not equals or key not in PART_NAMES or key in parts:
            reason = "is there twice" if key in parts else "is unknown"
            raise MergeError(
                f"{text}: “{part}” {reason}; after @ come a strength and te=, unet= and lbw=, "
                "such as FILE@0.8:te=0.5:lbw=MIDD."
            )
        parts[key] = value
    return parts


def _number(text: str, value: str) -> float:
    if not _is_number(value):
        raise MergeError(f"{text}: “{value}” is not a number; write a strength such as 0.8.")
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
