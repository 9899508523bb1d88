"""What the words of the command line mean: lists, recipes, numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from merging.errors import MergeError


def one_each(given: list | None, count: int, flag: str, missing: Any) -> list:
    """One value per FILE, in order; none at all is fine, some are not."""
    if given and len(given) != count:
        raise MergeError(f"{flag} was given {len(given)} times for {count} files; give one each.")
    return given or [missing] * count


def lines_of(path: Path) -> tuple[str, ...]:
    """Calibration prompts, one a line, blank lines left out."""
    try:
        lines = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise MergeError(f"{path}: the prompts cannot be read ({error}).") from error
    if not lines:
        raise MergeError(f"{path}: no prompts in it; write one a line.")
    return lines


def json_file(path: Path) -> dict[str, Any]:
    """A recipe."""
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MergeError(f"{path}: no recipe can be read from it ({error}).") from error
    if not isinstance(saved, dict):
        raise MergeError(f"{path}: a recipe is a JSON object, this is a {type(saved).__name__}.")
    return saved


def rows(text: str) -> int | None:
    """ "all", which is None, or a number."""
    return None if text == "all" else int(text)
