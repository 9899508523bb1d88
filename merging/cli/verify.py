"""The command `verify`: whether the inputs that a merged file names are at hand, unaltered."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from merging.cli.parser import CommandParser
from merging.errors import MergeError
from merging.formats.overview import overview
from merging.io.files import file_sha256, read_recipe
from merging.lora_file import inputs_in
from merging.runtime.progress import Progress


def add_verify(sub: CommandParser) -> None:
    """The options of ``verify``."""
    sub.describe(
        "MERGED FILE…",
        "both.safetensors cat.safetensors dog.safetensors",
        "both.safetensors loras/*.safetensors --json",
    )
    add = sub.essentials.add_argument
    add("merged", type=Path, metavar="MERGED", help="a file that this program has merged")
    add("files", nargs="+", type=Path, metavar="FILE", help="its inputs, in any order")
    sub.set_defaults(run=run_verify)


class VerifiedInput(TypedDict):
    """An input of the recipe, and the file that it is."""

    name: str
    sha256: str
    origin: str  # owner/repo/file@commit on the Hub, "" for a local file
    file: str


class VerifyAnswer(TypedDict):
    """All inputs of the recipe, which are all at hand."""

    merged: str
    sha256: str
    inputs: list[VerifiedInput]


def run_verify(options: argparse.Namespace, _progress: Progress) -> tuple[VerifyAnswer, str]:
    """Compare hashes; MergeError names the inputs that are missing or have other bytes.

    That the merged weights follow from the recipe, only `replay` can show.
    """
    recipe = read_recipe(overview(options.merged).metadata)
    if recipe is None:
        raise MergeError(
            f"{options.merged}: there is no recipe in it; only files that this program has merged "
            "can be verified."
        )
    files = {sha256: file for path in options.files for sha256, file in inputs_in(path).items()}
    entries = list(_entries(recipe, options.merged))
    if problems := [
        _problem(entry, options.files) for entry in entries if entry["sha256"] not in files
    ]:
        raise MergeError(
            f"{options.merged}: {len(problems)} of its {len(entries)} inputs are not among the "
            f"files: {'; '.join(problems)}."
        )
    inputs: list[VerifiedInput] = [
        {
            "name": str(entry.get("name", "")),
            "sha256": entry["sha256"],
            "origin": str(entry.get("origin", "")),
            "file": str(files[entry["sha256"]]),
        }
        for entry in entries
    ]
    answer: VerifyAnswer = {
        "merged": str(options.merged),
        "sha256": file_sha256(options.merged),
        "inputs": inputs,
    }
    rows = [f"  {row['name']}  {row['sha256']}  {row['origin'] or row['file']}" for row in inputs]
    text = f"{options.merged}: all {len(inputs)} inputs of its recipe are among the files"
    return answer, "\n".join([text, *rows])


def _entries(recipe: Mapping[str, Any], merged: Path) -> Iterator[Mapping[str, Any]]:
    """LoRAs and textual inversions of a recipe; MergeError for a damaged one."""
    rows = [*_list(recipe.get("sources")), *_list(recipe.get("embeddings"))]
    if not rows or not all(isinstance(row, dict) and "sha256" in row for row in rows):
        raise MergeError(f"{merged}: the recipe in it names no inputs; it is damaged.")
    yield from rows


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _problem(entry: Mapping[str, Any], files: list[Path]) -> str:
    """What is wrong with an input that is not at hand."""
    name, sha256 = str(entry.get("name", "")), str(entry["sha256"])
    place = f", which came from {entry['origin']}" if entry.get("origin") else ""
    if same_name := [path for path in files if path.stem == name]:
        return f"{same_name[0]} has other bytes than {name} had (SHA-256 {sha256[:12]}…){place}"
    return f"{name} (SHA-256 {sha256[:12]}…){place} is missing"
