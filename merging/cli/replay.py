"""The command `replay`: a merge redone from the recipe in its file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from merging import formats
from merging.adapter import Adapter
from merging.cli.output import SavedMerge, merged
from merging.diffusion.base import Base, load_base
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.export.convert import precision
from merging.export.recipe import replay
from merging.export.save import RecipeBase, save
from merging.io import hub
from merging.io.files import file_sha256, read_recipe
from merging.options import DEVICES, Precision
from merging.python_api import merge
from merging.runtime.progress import Progress

# How a file is written whose family reads so; all others are diffusers'.
FORMS = {"kohya": "kohya", "kohya, full difference": "full"}


def add_replay(sub: argparse.ArgumentParser) -> None:
    """The options of ``replay``."""
    sub.add_argument("merged", type=Path, metavar="MERGED", help="a file that merge has written")
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="its inputs, any order")
    sub.add_argument("--out", type=Path, required=True, help="the adapter to write")
    sub.add_argument("--base", help="base model, if not by the name in the recipe")
    sub.add_argument("--device", choices=DEVICES, default="auto")
    sub.add_argument(
        "--precision", choices=get_args(Precision), help="of the base model, if not as before"
    )
    sub.set_defaults(run=run_replay)


class ReplayAnswer(SavedMerge):
    """The merge, and whether it is the same file again."""

    same: bool


def run_replay(options: argparse.Namespace, progress: Progress) -> tuple[ReplayAnswer, str]:
    """Redo a merge; the same bytes where inputs, base, versions and processor are the same."""
    path = hub.resolve_file(options.merged).path
    found = formats.overview(path)
    recipe = read_recipe(found.metadata)
    if recipe is None:
        raise MergeError(
            f"{options.merged}: no recipe in it; only files that this program has merged can be "
            "replayed."
        )
    base = _base(options, recipe, found.base)
    request = replay(recipe, *_inputs(options.files, recipe, base))
    result = merge(request, base, progress)
    name, fingerprint = (str(recipe.get(key, "")) for key in ("base", "base_fingerprint"))
    again = save(
        result,
        options.out,
        FORMS.get(found.family, "diffusers"),
        precision(found.dtypes),
        base,
        RecipeBase(name, fingerprint, base.precision),
    )
    same = again.written.sha256 == file_sha256(path)
    answer, text = merged(again, result)
    verdict = "the same bytes as" if same else "NOT the same bytes as"
    return {**answer, "same": same}, f"{text}\n{verdict} {options.merged}"


def _base(options: argparse.Namespace, saved: Mapping[str, Any], fits: str) -> Base:
    """The base of a recipe; MergeError where it cannot be found, or holds other weights."""
    name = str(options.base or saved.get("base") or fits)
    if not options.base and name not in (*formats.TABLES, "") and "/" not in name:
        raise MergeError(
            f"{options.merged} was merged on a base in a folder called {name}, of which the recipe "
            "keeps the name alone; say where it lies: --base FOLDER."
        )
    precision = options.precision or str(saved.get("base_precision", "auto"))
    base = load_base(name, options.device, cast(Precision, precision))
    wanted = saved.get("base_fingerprint")
    if wanted and base.fingerprint != wanted:
        raise MergeError(
            f"{options.merged} was merged on {saved.get('base')}, whose weights are not those of "
            f"{name} (fingerprint {str(wanted)[:12]}…, here {base.fingerprint[:12]}…); give that "
            "base with --base."
        )
    return base


def _inputs(
    files: list[Path], saved: Mapping[str, Any], base: Base
) -> tuple[list[Adapter], list[Embedding]]:
    """The inputs of a recipe among the files, adapters and words; others are not even read."""
    wanted = [_hashes(saved.get(kind)) for kind in ("sources", "embeddings")]
    adapters: list[Adapter] = []
    words: list[Embedding] = []
    for path in (hub.resolve_file(file).path for file in files):
        own = file_sha256(path)
        if own in wanted[0]:
            adapters.append(formats.read(path, base.table, weights=base.weight))
        if own in wanted[1]:
            words += formats.read_embeddings(path, base.table)
    return adapters, words


def _hashes(entries: Any) -> list[Any]:
    """The SHA-256 of every entry, as far as there are any."""
    listed = entries if isinstance(entries, list) else []
    return [entry.get("sha256") for entry in listed if isinstance(entry, dict)]
