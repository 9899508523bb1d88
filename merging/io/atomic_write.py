"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from merging.errors import FileError

Checked = TypeVar("Checked")


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename. FileError if it cannot be."""
    write_checked(path, content, lambda _beside: None)


def write_checked(path: Path, content: bytes, check: Callable[[Path], Checked]) -> Checked:
    """The same, if ``check`` of what was written raises nothing; its answer is given back."""
    with appearing(path, str(path), "choose another place") as beside:
        with synced(beside) as stream:
            stream.write(content)
        return check(beside)


@contextmanager
def appearing(path: Path, name: str, remedy: str) -> Iterator[Path]:
    """A place beside ``path`` to write to, renamed at the end; nothing is left if anything raises.

    What cannot be written is a FileError that calls the file by ``name``.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(f"{name} cannot be written ({reason}); {remedy}.", error) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, on the disk once it is closed."""
    with path.open("xb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
