"""Cases of the user, from a YAML file: LoRA files, triggers, reference pictures, prompts.

    pictures: 50                      # of each kind and pair; at least two
    prompts:                          # {0} and {1} are the two concepts; default: this project's
      - a photo of {0} and {1}
    others: [dog, house]              # objects without a LoRA, for prior pictures; optional
    pairs:
      - name: cat-mug
        concepts:
          - lora: loras/cat.safetensors   # relative to the folder of the YAML file
            trigger: sks cat
            references: photos/cat        # a folder of pictures; default: drawn by the LoRA
          - {lora: loras/mug.safetensors, trigger: vxz mug, references: photos/mug}

A trigger that ends in "style" is a style of whole pictures, and its prompts say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from merging.errors import MergeError
from merging.evaluation.cases import TOGETHER, Case, Concept, picture_tasks
from merging.scoring.references import pictures_in

FIELDS = {"pictures", "prompts", "others", "pairs"}
PAIR_FIELDS = {"name", "concepts"}
CONCEPT_FIELDS = {"lora", "trigger", "references"}


def protocol_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a YAML file. MergeError names the file, the field and the value."""
    protocol = _load_yaml(path)
    _check_fields(protocol, FIELDS, {"pairs"}, str(path))
    templates = protocol.get("prompts") or TOGETHER
    for template in templates:
        if not (isinstance(template, str) and "{0}" in template and "{1}" in template):
            raise MergeError(f"{path}: the prompt {template!r} needs {{0}} and {{1}} in it.")
    count = protocol.get("pictures", 50)
    if not isinstance(count, int) or count < 2:
        raise MergeError(f"{path}: pictures must be a whole number from 2, not {count!r}.")
    others = [str(thing) for thing in protocol.get("others") or ()]
    return tuple(
        _case(path, row, others, count, templates) for row in _rows(protocol, "pairs", path)
    )


def _load_yaml(path: Path) -> Any:
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
    label = f"{path}, {row['name']}"
    concepts = tuple(_concept(path, entry, label) for entry in _rows(row, "concepts", path))
    if len(concepts) < 2:
        raise MergeError(f"{label}: a case needs two concepts or more.")
    kind = "objects" if len(concepts) == 2 else f"{len(concepts)} at once"
    if any(concept.style for concept in concepts):
        kind = "object + style"
    return Case(
        str(row["name"]), kind, "test", concepts, picture_tasks(concepts, others, count, templates)
    )


def _concept(path: Path, row: Any, label: str) -> Concept:
    _check_fields(row, CONCEPT_FIELDS, {"lora", "trigger"}, label)
    return Concept(
        path.parent / str(row["lora"]),
        str(row["trigger"]),
        _references(path.parent, row, label),
    )


def _references(folder: Path, row: Mapping[str, Any], label: str) -> tuple[Path, ...]:
    """All pictures of the folder, by name."""
    if "references" not in row:
        return ()
    return pictures_in(folder / str(row["references"]), label)


def _rows(protocol: Mapping[str, Any], field: str, path: Path) -> Sequence[Any]:
    rows = protocol[field]
    if not (isinstance(rows, list) and rows):
        raise MergeError(f"{path}: {field} must be a list with at least one entry.")
    return rows


def _check_fields(protocol: Any, known: set[str], needed: set[str], label: str) -> None:
    if not isinstance(protocol, dict):
        raise MergeError(f"{label} must be fields with values, not {type(protocol).__name__}.")
    if strange := [str(field) for field in protocol if field not in known]:
        raise MergeError(
            f"{label}: {strange[0]} is not a field; there are {', '.join(sorted(known))}."
        )
    if missing := sorted(needed - set(protocol)):
        raise MergeError(f"{label}: {missing[0]} is missing.")
