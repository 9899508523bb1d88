"""Writes the page's changes to settings.toml and leaves the rest of the file as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tomlkit

from app.settings.load import read
from app.settings.model import SETTINGS, Settings
from app.settings.setting import Value
from merging.errors import MergeError
from merging.io.atomic_write import write_whole


def at_next_start(settings: Settings) -> dict[str, Value]:
    """Every setting as the next start will read it, by name; MergeError if the file is wrong."""
    texts = {**read(_file(settings)), **settings.above}
    return {name: setting.written(texts.get(name, "")) for name, setting in SETTINGS.items()}


def save(settings: Settings, values: Mapping[str, Value | None]) -> tuple[str, ...]:
    """Write the settings that differ from the file; returns their names.

    None and "" mean the default. Settings from environment and flags are not written. Raises
    MergeError for a value that the start would refuse; nothing is written then.
    """
    before = at_next_start(settings)
    written = {
        name: SETTINGS[name].written(_text(value))
        for name, value in values.items()
        if name not in settings.above
    }
    changed = {name: value for name, value in written.items() if value != before[name]}
    if changed:
        _write(_file(settings), changed)
    return tuple(changed)


def _write(file: Path, changed: Mapping[str, Value]) -> None:
    """Write these values into the file; "" removes a setting from it."""
    document = tomlkit.parse(file.read_bytes() if file.is_file() else "")
    for name, value in changed.items():
        if value == "":
            document.remove(name)
        else:
            document[name] = value
    write_whole(file, tomlkit.dumps(document).encode())


def _text(value: Value | None) -> str:
    """A value as text, 2.0 as "2"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _file(settings: Settings) -> Path:
    if settings.file is None:
        raise MergeError("Only the operator can change the settings of this app.")
    return settings.file
