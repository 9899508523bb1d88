"""The command `replay`: merge again from the recipe in a merged file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from merging import formats
from merging.adapter import Adapter
from merging.cli.arguments.merge_options import add_device
from merging.cli.output import SavedMerge, describe_merge
from merging.cli.parser import CommandParser
from merging.diffusion.base import Base, load_base
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.export.convert import main_dtype
from merging.export.recipe import replay
from merging.export.save import RecipeBase, save
from merging.io import hub
from merging.io.files import read_recipe, tensors_sha256
from merging.lora_file import LoraInput, inputs_in, packed_since
from merging.methods import METHODS
from merging.options import Precision
from merging.python_api import merge
from merging.runtime.progress import Progress

# The format to write, by the family of the merged file; all others are diffusers'.
FORMATS = {
    "kohya": "kohya",
    "kohya, full difference": "full",
    "diffusers (PEFT), SHiRA": "shira",
}


def add_replay(sub: CommandParser) -> None:
    """The options of ``replay``."""
    sub.describe(
        "MERGED FILE… --out OUT [options]",
        "both.safetensors cat.safetensors dog.safetensors --out again.safetensors",
        "both.safetensors loras/*.safetensors --base my-model/ --out again.safetensors",
    )
    add = sub.essentials.add_argument
    add("merged", type=Path, metavar="MERGED", help="a file that the command merge has written")
    add("files", nargs="+", type=Path, metavar="FILE", help="its inputs, in any order")
    add("-o", "--out", type=Path, required=True, help="the adapter to write")
    add("--base", help="base model (default: the one in the recipe)")
    add_device(sub)
    sub.experts.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="numbers of the base model at work (default: the recipe's)",
    )
    sub.set_defaults(run=run_replay)


class ReplayAnswer(SavedMerge):
    """The merge, and whether its tensors have the same bytes as the old file's."""

    same: bool


def run_replay(options: argparse.Namespace, progress: Progress) -> tuple[ReplayAnswer, str]:
    """Merge again; same inputs, base model, versions and processor give the same tensors."""
    path = hub.resolve_file(options.merged).path
    overview = formats.overview(path)
    recipe = read_recipe(overview.metadata)
    if recipe is None:
        raise MergeError(
            f"{options.merged}: there is no recipe in it; only files that this program has merged "
            "can be replayed."
        )
    files = _files(options.files, recipe)
    base = _base(options, recipe, overview.base) if _needs_base(recipe, files) else None
    table = base.table if base else formats.table(overview.base)
    request = replay(recipe, *_inputs(files, recipe, table, base))
    result = merge(request, base, progress)
    name, fingerprint = (str(recipe.get(key, "")) for key in ("base", "base_fingerprint"))
    precision = base.precision if base else "auto"
    copy = save(
        result,
        options.out,
        FORMATS.get(overview.family, "diffusers"),
        main_dtype(overview.dtypes),
        base,
        RecipeBase(name, fingerprint, precision),
    )
    same = tensors_sha256(copy.path) == tensors_sha256(path)
    answer, text = describe_merge(copy, result)
    verdict = "the same tensors as" if same else "NOT the same tensors as"
    return {**answer, "same": same}, f"{text}\n{verdict} {options.merged}"


def _base(options: argparse.Namespace, recipe: Mapping[str, Any], default: str) -> Base:
    """The base model of a recipe; MergeError if it is not found or has other weights."""
    name = str(options.base or recipe.get("base") or default)
    if not options.base and name not in (*formats.TABLES, "") and "/" not in name:
        raise MergeError(
            f"{options.merged} was merged on a base model in a folder called {name}; the recipe "
            "does not have its path: give it with --base FOLDER."
        )
    precision = options.precision or str(recipe.get("base_precision", "auto"))
    base = load_base(name, options.device, cast(Precision, precision))
    fingerprint = recipe.get("base_fingerprint")
    if fingerprint and base.fingerprint != fingerprint:
        raise MergeError(
            f"{options.merged} was merged on {recipe.get('base')}, whose weights are not those of "
            f"{name} (fingerprint {str(fingerprint)[:12]}…, here {base.fingerprint[:12]}…); give "
            "that base with --base."
        )
    return base


def _files(files: list[Path], recipe: Mapping[str, Any]) -> dict[str, Path]:
    """SHA-256 → path of the files that are in the recipe, PACK#NAME for a pack's LoRAs.

    MergeError where there is only what a pack has of such a file.
    """
    paths = [hub.resolve_file(file).path for file in files]
    listed = _hashes(recipe.get("sources")) + _hashes(recipe.get("embeddings"))
    by_hash = {sha256: file for path in paths for sha256, file in inputs_in(path).items()}
    packed = {sha256: place for path in paths for sha256, place in packed_since(path).items()}
    if lost := [sha256 for sha256 in listed if sha256 in packed and sha256 not in by_hash]:
        place, error = packed[lost[0]]
        raise MergeError(
            f"{place} was packed from the file that the recipe names (SHA-256 {lost[0][:12]}…) and "
            f"has a relative error of {error:.1e}: this merge needs the file itself."
        )
    return {sha256: file for sha256, file in by_hash.items() if sha256 in listed}


def _needs_base(recipe: Mapping[str, Any], files: Mapping[str, Path]) -> bool:
    """Whether the recipe's method or one of its LoRAs needs the base model's weights."""
    method = METHODS.get(str(recipe.get("method")))
    if method is None or method.needs != "nothing" or recipe.get("refine"):
        return True
    loras = [files[sha256] for sha256 in _hashes(recipe.get("sources")) if sha256 in files]
    return any(LoraInput(path).needs_base for path in loras)


def _inputs(
    files: Mapping[str, Path],
    recipe: Mapping[str, Any],
    table: formats.LayerTable,
    base: Base | None,
) -> tuple[list[Adapter], list[Embedding]]:
    """The adapters and embeddings of a recipe."""
    adapters = [
        LoraInput(files[sha256]).source(base, table).adapter
        for sha256 in dict.fromkeys(_hashes(recipe.get("sources")))
        if sha256 in files
    ]
    embeddings = [
        embedding
        for sha256 in dict.fromkeys(_hashes(recipe.get("embeddings")))
        if sha256 in files
        for embedding in formats.read_embeddings(files[sha256], table)
    ]
    return adapters, embeddings


def _hashes(entries: Any) -> list[str]:
    """The SHA-256 of every entry; [] for a damaged list."""
    rows = entries if isinstance(entries, list) else []
    hashes = [entry.get("sha256") for entry in rows if isinstance(entry, dict)]
    return [sha256 for sha256 in hashes if isinstance(sha256, str)]
