"""settings.toml as the page writes it: what has changed, and all else in the file left as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from app.settings.load import VARIABLES, check, parsed, read
from app.settings.model import Settings
from merging.errors import MergeError
from merging.io.atomic_write import write_whole

Value = str | float  # a number where the setting is one
# By the names in the file; "" is what a person's own machine, and no text, can say.
DEFAULTS: dict[str, Value] = {name: getattr(Settings, name, "") for name in VARIABLES} | {
    "mcp": "off",
    "home": "",
    "max_mb": Settings.max_megabytes,
}
WORDS = ("device", "precision", "mcp")  # read in either case
# One setting in one line, and what is said after it.
LINE = (
    r"(?m)^[ \t]*{name}[ \t]*=[ \t]*"
    r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s#"']+)([ \t]*(?:#.*)?)(?:\n|\Z)"""
)


def at_next_start(settings: Settings) -> dict[str, Value]:
    """Every setting by its name in the file; MergeError if the file has become wrong."""
    told = {**read(_file(settings)), **settings.above}
    return {name: _valued(name, told.get(name, "")) for name in VARIABLES}


def save(settings: Settings, wanted: Mapping[str, Value | None]) -> tuple[str, ...]:
    """Write what differs from what the file says; the names of it.

    None and "" stand for the default. What environment and flags decide is left alone. MergeError
    for a value that the start would refuse, and for a file that cannot be changed line by line;
    nothing is written then.
    """
    before = at_next_start(settings)
    changed = {
        name: given
        for name, value in wanted.items()
        if name not in settings.above and (given := _given(name, value)) != before[name]
    }
    for name, value in changed.items():
        check(name, str(value))
    if changed:
        file = _file(settings)
        write_whole(file, _rewritten(file, changed).encode("utf-8"))
    return tuple(changed)


def _rewritten(file: Path, changed: Mapping[str, Value]) -> str:
    """The file's text with these lines anew; it says what it should, and all else as before."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    for name, value in changed.items():
        text = _with(text, name, value)
    said = {name: str(value) for name, value in changed.items()}
    expected = {
        name: value for name, value in (read(file) | said).items() if value or name not in said
    }
    if not _says(text, file, expected):
        raise MergeError(
            f"{file} is written in a way that the page cannot change; write {', '.join(changed)} "
            "into it by hand."
        )
    return text


def _with(text: str, name: str, value: Value) -> str:
    """The text with the setting's line anew, at its place or the end; without it for ""."""
    line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    found = re.search(LINE.format(name=name), text)
    if found:
        anew = f"{line}{found[1]}\n" if value != "" else ""
        return f"{text[: found.start()]}{anew}{text[found.end() :]}"
    apart = "" if text.endswith("\n") or not text else "\n"
    return f"{text}{apart}{line}\n" if value != "" else text


def _says(text: str, file: Path, expected: Mapping[str, str]) -> bool:
    try:
        return parsed(text, file) == expected
    except (ValueError, MergeError):
        return False


def _valued(name: str, text: str) -> Value:
    """A setting's value, "" being the default; MergeError if the start would refuse it."""
    check(name, text)
    return _given(name, float(text) if text.strip() and _is_number(name) else text)


def _given(name: str, value: Value | None) -> Value:
    """A value as it is compared and written: numbers without a fraction as such."""
    if isinstance(value, str):
        value = value.strip().lower() if name in WORDS else value.strip()
    if value is None or value == "":
        return DEFAULTS[name]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_number(name: str) -> bool:
    return not isinstance(DEFAULTS[name], str)


def _file(settings: Settings) -> Path:
    if settings.file is None:
        raise MergeError(
            "The settings of this app are its operator's: the page cannot change them."
        )
    return settings.file
