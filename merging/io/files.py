"""Hashes, recipes and names of files; nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from merging.errors import FileError, MergeError

PEFT_WEIGHTS = "adapter_model.safetensors"  # PEFT's name of the weights
PEFT_CONFIG = "adapter_config.json"  # PEFT's configuration, in the same folder as the weights
RECIPE_KEY = "iteris.recipe"  # header field of the files that this project writes
CARRIED_KEY = "iteris.carried"  # header field of LoRAs that were carried to another base model
PACK_KEY = "iteris.pack"  # header field of packs: several LoRAs in one file
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MAX_CONFIG = 1 << 20  # bytes; a pattern for each of 354 layers takes 30,000


def peft_config_path(path: Path) -> Path:
    """Where PEFT keeps the configuration of this adapter file; other formats have none."""
    return path.with_name(PEFT_CONFIG)


def open_regular(path: Path, name: str) -> BinaryIO:
    """A file, opened for reading. OSError, or MergeError if it is a pipe, a device or a folder.

    Opening a pipe would wait for its other end, and a device has no end.
    """
    if not S_ISREG(path.stat().st_mode):
        raise MergeError(f"{name} is a folder, a pipe or a device; a .safetensors file is needed.")
    return path.open("rb")


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file; FileError if it cannot be read."""
    return hashlib.sha256(_content(path)).hexdigest()


def tensors_sha256(path: Path) -> str:
    """SHA-256 of all tensors of a safetensors file, without its header; FileError as above.

    Files of one merge have it in common, whatever their names, which are in their headers.
    """
    content = memoryview(_content(path))
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path.name} cannot be read ({error.strerror}).", error) from error


def read_recipe(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The recipe in a file's header; None if this project did not write the file."""
    try:
        recipe = json.loads(metadata[RECIPE_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None
