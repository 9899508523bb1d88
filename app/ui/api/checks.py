"""What the arguments of an endpoint may be: checked as they arrive, before any work.

Each check gets the argument's name and what the client sent, and raises MergeError with one
sentence that names both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from merging.errors import MergeError

Check = Callable[[str, object], None]
LONGEST_TEXT = 20_000  # characters of any text; each use of it has its own, smaller limit
LARGEST_SEED = 2**63 - 1  # of torch's generators
SHOWN = 60  # characters of a wrong value in its sentence


def text(longest: int = LONGEST_TEXT) -> Check:
    """A text of at most so many characters."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, str):
            raise MergeError(f"{name} must be a text, not {_shown(value)}.")
        if len(value) > longest:
            raise MergeError(f"{name} has {len(value)} characters; at most {longest} are allowed.")

    return check


def one_of(choices: Sequence[str]) -> Check:
    """One of these words."""

    def check(name: str, value: object) -> None:
        if value not in choices:
            raise MergeError(f"{name} must be {', '.join(choices)}, not {_shown(value)}.")

    return check


def number(lowest: float, highest: float, whole: bool = False, optional: bool = False) -> Check:
    """A finite number within bounds; null too if it is optional."""
    kind = "a whole number" if whole else "a number"
    allowed = f"{kind} from {lowest:.15g} to {highest:.15g}{' or null' if optional else ''}"

    def check(name: str, value: object) -> None:
        if value is None and optional:
            return
        if not (_is_number(value, whole) and lowest <= value <= highest):  # type: ignore[operator]
            raise MergeError(f"{name} must be {allowed}, not {_shown(value)}.")

    return check


def listed(kind: str, most: int) -> Check:
    """null, or a list of at most so many entries; what these may be is checked with the files."""

    def check(name: str, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, list):
            raise MergeError(f"{name} must be a list of {kind}, not {_shown(value)}.")
        if len(value) > most:
            raise MergeError(f"{name} has {len(value)} entries; at most {most} are allowed.")

    return check


def uploads(most: int) -> Check:
    """null, or a list of at most so many uploaded files, as Gradio's clients send them."""

    def check(name: str, value: object) -> None:
        listed("uploaded files", most)(name, value)
        for file in value or ():  # type: ignore[attr-defined]
            upload(name, file)

    return check


def upload(name: str, value: object) -> None:
    """One uploaded file, as Gradio's clients send it."""
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise MergeError(f"{name} must be uploaded first; {_shown(value)} is no uploaded file.")


def _is_number(value: object, whole: bool) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if isinstance(value, int):
        return True
    return math.isfinite(value) and (value.is_integer() or not whole)


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
