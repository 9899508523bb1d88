"""Values of command line arguments: a value per file, prompts and recipes read from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from merging.errors import MergeError


def one_per_file(values: list | None, count: int, flag: str, default: Any) -> list:
    """One value per FILE, in order; ``default`` for all where the flag is missing.

    Raises MergeError for fewer or more values than files.
    """
    if values and len(values) != count:
        raise MergeError(f"{flag} has {len(values)} values for {count} files; give one per file.")
    return values or [default] * count


def read_prompts(path: Path) -> tuple[str, ...]:
    """Calibration prompts from a file, one per line; blank lines are skipped."""
    try:
        lines = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise MergeError(f"{path}: cannot read prompts from it ({error}).") from error
    if not lines:
        raise MergeError(f"{path}: there are no prompts in it; write one per line.")
    return lines


def read_recipe_file(path: Path) -> dict[str, Any]:
    """A recipe from a JSON file."""
    try:
        recipe = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MergeError(f"{path}: cannot read a recipe from it ({error}).") from error
    if not isinstance(recipe, dict):
        raise MergeError(f"{path}: a recipe is a JSON object, this is a {type(recipe).__name__}.")
    return recipe
