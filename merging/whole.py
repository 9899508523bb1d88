"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from merging.errors import MergeError

Checked = TypeVar("Checked")


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename. MergeError if it cannot be."""
    write_checked(path, content, lambda _beside: None)


def write_checked(path: Path, content: bytes, check: Callable[[Path], Checked]) -> Checked:
    """The same, if ``check`` of what was written raises nothing; its answer is given back."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        found = check(beside)
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MergeError(f"{path} cannot be written ({reason}); choose another place.") from error
    finally:
        beside.unlink(missing_ok=True)
    return found
