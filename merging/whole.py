"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from merging.errors import MergeError


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename; folders are made. MergeError if it cannot be."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MergeError(f"{path} cannot be written ({reason}); choose another place.") from error
    finally:
        beside.unlink(missing_ok=True)
