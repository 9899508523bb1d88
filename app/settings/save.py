"""settings.toml as the page writes it: what has changed, and all else in the file left as it is."""

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
    """Every setting by name; MergeError if the file has become wrong."""
    texts = {**read(_file(settings)), **settings.above}
    return {name: each.written(texts.get(name, "")) for name, each in SETTINGS.items()}


def save(settings: Settings, wanted: Mapping[str, Value | None]) -> tuple[str, ...]:
    """Write what differs from what the file says; the names of it.

    None and "" stand for the default. What environment and flags decide is left alone. MergeError
    for a value that the start would refuse; nothing is written then.
    """
    before = at_next_start(settings)
    values = {
        name: SETTINGS[name].written(_text(value))
        for name, value in wanted.items()
        if name not in settings.above
    }
    changed = {name: value for name, value in values.items() if value != before[name]}
    if changed:
        _write(_file(settings), changed)
    return tuple(changed)


def _write(file: Path, changed: Mapping[str, Value]) -> None:
    """The file with these values; one that is "" leaves it."""
    document = tomlkit.parse(file.read_bytes() if file.is_file() else "")
    for name, value in changed.items():
        if value == "":
            document.remove(name)
        else:
            document[name] = value
    write_whole(file, tomlkit.dumps(document).encode())


def _text(value: Value | None) -> str:
    """A value as a person types it: a number without a fraction as such."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _file(settings: Settings) -> Path:
    if settings.file is None:
        raise MergeError(
            "The settings of this app are its operator's: the page cannot change them."
        )
    return settings.file
