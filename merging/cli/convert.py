"""Files out of files: one family of adapters turned into another, and a merge redone from its file.

Both commands of the command line, with what a person is told of a file that was written.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from merging import formats
from merging.adapter import Adapter
from merging.analysis.rank_curve import cut
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.loader_check import checked
from merging.embedding import Embedding
from merging.engine import MergeResult, merge
from merging.errors import MergeError
from merging.export.recipe import header, replay
from merging.export.sidecar import sentences, write_words
from merging.formats.metadata import BASES
from merging.formats.overview import HASHES
from merging.io import hub
from merging.io.files import file_sha256, read_recipe
from merging.options import Precision
from merging.runtime.progress import Progress

# What a header says of the file that it was in, which is not true of one made from it.
OF_THE_FILE = {
    *HASHES,
    *("ss_output_name", "ss_network_module", "ss_network_dim", "ss_network_alpha"),
    *("ss_network_args", "lora_adapter_metadata", "format"),
    *BASES["sd15"],
}
# How a file is written whose family reads so; all others are diffusers'.
FORMS = {"kohya": "kohya", "kohya, full difference": "full"}
# safetensors' types by ours; what is neither wide nor bfloat16 fits into float16.
PRECISIONS = {"F64": "fp32", "F32": "fp32", "BF16": "bf16"}


def add_convert(sub: argparse.ArgumentParser) -> None:
    """The options of ``convert``."""
    sub.add_argument("file", type=Path, metavar="IN", help="an adapter of any family")
    sub.add_argument("out", type=Path, metavar="OUT", help="the adapter to write")
    sub.add_argument("--format", choices=formats.WRITERS, default="kohya")
    sub.add_argument("--dtype", choices=formats.DTYPES, help="if not as in the file")
    sub.add_argument("--rank", type=int, metavar="N", help="of every layer, at most")
    sub.add_argument("--base", help="base model, for families that depend on its weights")
    sub.set_defaults(run=run_convert)


def add_replay(sub: argparse.ArgumentParser) -> None:
    """The options of ``replay``."""
    sub.add_argument("merged", type=Path, metavar="MERGED", help="a file that merge has written")
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help="its inputs, any order")
    sub.add_argument("--out", type=Path, required=True, help="the adapter to write")
    sub.add_argument("--base", help="base model, if not by the name in the recipe")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    sub.add_argument(
        "--precision", choices=get_args(Precision), help="of the base model, if not as before"
    )
    sub.set_defaults(run=run_replay)


def run_convert(options: argparse.Namespace, _progress: Progress) -> tuple[dict[str, Any], str]:
    """An adapter of any family as a LoRA that every program loads, or as diffusers' own."""
    base = load_base(options.base, "cpu") if options.base else None
    table, weights = (base.table, base.weight) if base else (None, None)
    path = hub.found(options.file).path
    found = formats.overview(path, table)
    adapter = formats.read(path, table, weights=weights)
    if options.rank is not None:
        adapter = cut(adapter, options.rank)
    dtype = options.dtype or precision(found.dtypes)
    adapter = replace(adapter, name=options.out.stem)
    written = formats.WRITERS[options.format](
        adapter, options.out, formats.DTYPES[dtype], kept(adapter.metadata)
    )
    if base:
        written = checked(base, options.out, adapter, written)
    words = write_words(adapter, options.out)
    answer = told(options.out, written, words)
    answer |= {"family": adapter.family, "notes": adapter.warnings}
    notes = "".join(f"\nnote: {note}" for note in (*adapter.warnings, *sentences(words)))
    text = f"{options.out}: {adapter.family} to {options.format}, {dtype}, {_ranks(adapter)}"
    return answer, f"{text}\n{written.sentence}{notes}"


def kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a header says of the adapter, without what it says of the file."""
    return {key: value for key, value in metadata.items() if key not in OF_THE_FILE}


def precision(dtypes: Counter[str]) -> str:
    """The type that most of a file's tensors have, as far as we write it."""
    return PRECISIONS.get(dtypes.most_common(1)[0][0], "fp16")


def run_replay(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """Redo a merge; the same bytes where inputs, base, versions and processor are the same."""
    path = hub.found(options.merged).path
    found = formats.overview(path)
    saved = read_recipe(found.metadata)
    if saved is None:
        raise MergeError(
            f"{options.merged}: no recipe in it; only files that this program has merged can be "
            "replayed."
        )
    base = _base(options, saved, found.base)
    request = replay(saved, *_inputs(options.files, saved, base))
    result = merge(request, activations(base), progress)
    form = FORMS.get(found.family, "diffusers")
    dtype = formats.DTYPES[precision(found.dtypes)]
    name, fingerprint = (str(saved.get(key, "")) for key in ("base", "base_fingerprint"))
    fields = header(request, result, name, fingerprint, base.precision)
    written = formats.WRITERS[form](result.adapter, options.out, dtype, fields)
    written = checked(base, options.out, result.adapter, written)
    same = written.sha256 == file_sha256(path)
    answer, text = merged(options.out, written, result, write_words(result.adapter, options.out))
    told_so = "the same bytes as" if same else "NOT the same bytes as"
    return answer | {"same": same}, f"{text}\n{told_so} {options.merged}"


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
    for path in (hub.found(file).path for file in files):
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


def merged(
    out: Path,
    written: formats.Written,
    result: MergeResult,
    words: Sequence[dict[str, Any]] = (),
) -> tuple[dict[str, Any], str]:
    """What is said of a merge, as data and as text."""
    report = result.report
    notes = "".join(f"\nnote: {note}" for note in (*report.notes, *sentences(words)))
    text = f"{out}: {_ranks(result.adapter)}, {report.method}, {report.seconds:.1f} s"
    answer = told(out, written, words) | {"report": report.as_dict()}
    return answer, f"{text}\n{written.sentence}{notes}"


def told(
    out: Path, written: formats.Written, words: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A written file as plain data."""
    return {
        "out": str(out),
        "sha256": written.sha256,
        "verified": written.as_dict(),
        "embeddings": list(words),
    }


def _ranks(adapter: Adapter) -> str:
    ranks = [layer.rank for layer in adapter.layers.values()]
    return f"{len(ranks)} layers, ranks {min(ranks)}–{max(ranks)}"
