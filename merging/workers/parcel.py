"""Plain data and the files that it names, for a worker that shares no disk with the app."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging.io.files import peft_config_path

Files = dict[str, bytes]  # by name; of files in a folder, by path within it


@dataclass(frozen=True)
class Parcel:
    """Pickled data in which every path is a number."""

    data: bytes
    paths: tuple[Path, ...]  # by number, where the data was packed

    def unpack(self, places: Sequence[Path]) -> Any:
        """The data, with other paths in place of its own."""
        return _Unpacker(io.BytesIO(self.data), places).load()


def pack(value: object) -> Parcel:
    """The data with its paths taken out."""
    stream, paths = io.BytesIO(), dict[Path, int]()
    _Packer(stream, paths).dump(value)
    return Parcel(stream.getvalue(), tuple(paths))


class _Packer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, paths: dict[Path, int]) -> None:
        super().__init__(stream, protocol=5)
        self._paths = paths

    def persistent_id(self, item: object) -> int | None:
        return self._paths.setdefault(item, len(self._paths)) if isinstance(item, Path) else None


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, places: Sequence[Path]) -> None:
        super().__init__(stream)
        self._places = places

    def persistent_load(self, number: int) -> Path:
        return self._places[number]


def moved(paths: Sequence[Path], source: Path, target: Path) -> list[Path]:
    """Paths within one folder as paths within another; others as they are."""
    return [
        target / path.relative_to(source) if path.is_relative_to(source) else path for path in paths
    ]


def files_at(path: Path) -> Files:
    """A file and PEFT's configuration beside it; {} for what is no file."""
    if not path.is_file():
        return {}
    beside = [one for one in (path, peft_config_path(path)) if one.is_file()]
    return {one.name: one.read_bytes() for one in beside}


class Inbox:
    """The files of a parcel, each in a folder of its own, and where they came from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._origins: dict[Path, Path] = {}

    def places(self, origins: Sequence[Path], contents: Sequence[Files]) -> list[Path]:
        """Write what was sent; returns where it is here, and paths without files as they are."""
        pairs = zip(origins, contents, strict=True)
        return [self.put(path, files) if files else path for path, files in pairs]

    def put(self, origin: Path, files: Files) -> Path:
        """Write a file and what belongs beside it; returns its place here."""
        folder = self._folder / f"{len(self._origins)}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self._origins[folder / origin.name] = origin
        return folder / origin.name

    def origin(self, place: Path) -> Path:
        """Where a file came from; other paths as they are."""
        return self._origins.get(place, place)

    def with_origins(self, text: str) -> str:
        """A text that names files as they are called where they came from."""
        for place, origin in self._origins.items():
            text = text.replace(str(place), str(origin))
        return text
