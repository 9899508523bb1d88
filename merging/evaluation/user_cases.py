"""The user's own cases, from a YAML file: LoRA files, triggers, reference pictures, prompts.

    pictures: 50                      # of each kind and pair; two at least
    prompts:                          # {0} and {1} are the two concepts; left out: ours
      - a photo of {0} and {1}
    others: [dog, house]              # things without a LoRA, for the prior; may be left out
    pairs:
      - name: cat-mug
        concepts:
          - lora: loras/cat.safetensors   # paths are seen from the YAML file's folder
            trigger: sks cat
            references: photos/cat        # a folder of pictures; left out: what the LoRA draws
          - {lora: loras/mug.safetensors, trigger: vxz mug, references: photos/mug}

A trigger that ends in "style" calls a look of whole pictures, and is prompted for as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from merging.errors import MergeError
from merging.evaluation.cases import TOGETHER, Case, Concept, asked
from merging.scoring.references import pictures_in

FIELDS = {"pictures", "prompts", "others", "pairs"}
PAIR_FIELDS = {"name", "concepts"}
CONCEPT_FIELDS = {"lora", "trigger", "references"}


def protocol_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a YAML file. MergeError names the file, the field and what was found."""
    told = _loaded(path)
    _check_fields(told, FIELDS, {"pairs"}, str(path))
    templates = told.get("prompts") or TOGETHER
    for template in templates:
        if not (isinstance(template, str) and "{0}" in template and "{1}" in template):
            raise MergeError(f"{path}: the prompt {template!r} needs {{0}} and {{1}} in it.")
    count = told.get("pictures", 50)
    if not isinstance(count, int) or count < 2:
        raise MergeError(f"{path}: pictures must be a whole number from 2, not {count!r}.")
    others = [str(thing) for thing in told.get("others") or ()]
    return tuple(_case(path, row, others, count, templates) for row in _rows(told, "pairs", path))


def _loaded(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MergeError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise MergeError(f"{path} is no YAML file ({reason}).") from error


def _case(
    path: Path, row: Any, others: Sequence[str], count: int, templates: Sequence[str]
) -> Case:
    _check_fields(row, PAIR_FIELDS, PAIR_FIELDS, f"{path}, a pair")
    place = f"{path}, {row['name']}"
    concepts = tuple(_concept(path, each, place) for each in _rows(row, "concepts", path))
    if len(concepts) < 2:
        raise MergeError(f"{place}: a case needs two concepts or more.")
    kind = "objects" if len(concepts) == 2 else f"{len(concepts)} at once"
    if any(concept.style for concept in concepts):
        kind = "object + style"
    return Case(str(row["name"]), kind, "test", concepts, asked(concepts, others, count, templates))


def _concept(path: Path, row: Any, place: str) -> Concept:
    _check_fields(row, CONCEPT_FIELDS, {"lora", "trigger"}, place)
    return Concept(
        path.parent / str(row["lora"]),
        str(row["trigger"]),
        _references(path.parent, row, place),
    )


def _references(folder: Path, row: Mapping[str, Any], place: str) -> tuple[Path, ...]:
    """All pictures of the folder, by name."""
    if "references" not in row:
        return ()
    return pictures_in(folder / str(row["references"]), place)


def _rows(told: Mapping[str, Any], field: str, path: Path) -> Sequence[Any]:
    rows = told[field]
    if not (isinstance(rows, list) and rows):
        raise MergeError(f"{path}: {field} must be a list with something in it.")
    return rows


def _check_fields(told: Any, known: set[str], needed: set[str], place: str) -> None:
    if not isinstance(told, dict):
        raise MergeError(f"{place} must be fields with values, not {type(told).__name__}.")
    if strange := [str(field) for field in told if field not in known]:
        raise MergeError(
            f"{place}: {strange[0]} is no field; there are {', '.join(sorted(known))}."
        )
    if missing := sorted(needed - set(told)):
        raise MergeError(f"{place}: {missing[0]} is missing.")
