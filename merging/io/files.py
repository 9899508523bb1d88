"""What can be said of a file before it is read as a model; nothing heavy is imported here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging.errors import FileError

BESIDE = "adapter_config.json"  # PEFT's configuration, in a file of its own
RECIPE_KEY = "iteris.recipe"  # the header field of our files
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MAX_CONFIG = 1 << 20  # bytes; a pattern for each of 354 layers takes 30,000


def beside(path: Path) -> Path:
    """Where PEFT's own form has its configuration, if the file is of that form."""
    return path.with_name(BESIDE)


def file_sha256(path: Path) -> str:
    """Of all bytes of a file; FileError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FileError(f"{path.name} cannot be read ({error.strerror}).", error) from error


def read_recipe(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The recipe in the header of a file that we wrote; None in any other."""
    try:
        found = json.loads(metadata[RECIPE_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
