"""What can be said of a file before it is read as a model; nothing heavy is imported here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from merging.errors import MergeError

BESIDE = "adapter_config.json"  # PEFT's configuration, in a file of its own
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MAX_CONFIG = 1 << 20  # bytes; a pattern for each of 354 layers takes 30,000


def beside(path: Path) -> Path:
    """Where PEFT's own form has its configuration, if the file is of that form."""
    return path.with_name(BESIDE)


def file_sha256(path: Path) -> str:
    """Of all bytes of a file; MergeError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MergeError(f"{path.name} cannot be read ({error.strerror}).") from error
