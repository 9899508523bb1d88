"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from merging.errors import FileError

Result = TypeVar("Result")


def write_whole(path: Path, content: bytes) -> None:
    """Write a temporary file, flush it to the disk and rename it; FileError if that fails."""
    write_checked(path, [content], lambda _temporary: None)


def write_checked(
    path: Path, content: Iterable[bytes | memoryview], check: Callable[[Path], Result]
) -> Result:
    """`write_whole` in pieces, but first ``check`` the temporary file; returns the check."""
    with replacing(path, str(path), "choose another place") as temporary:
        with synced_file(temporary) as stream:
            stream.writelines(content)
        return check(temporary)


@contextmanager
def replacing(path: Path, name: str, remedy: str) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to ``path`` at the end, deleted on an error.

    An OSError becomes a FileError with the file's ``name`` and the ``remedy``.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(f"{name} cannot be written ({reason}); {remedy}.", error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to; it is flushed to the disk before it is closed."""
    with path.open("xb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
