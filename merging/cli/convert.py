"""Files out of files: one family of adapters turned into another, and a merge redone from its file.

Both commands of the command line, with what a person is told of a file that was written.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from merging import formats
from merging.analysis.rank_curve import cut
from merging.cli.output import ranks_text, told
from merging.diffusion.base import load_base
from merging.diffusion.loader_check import checked
from merging.export.convert import kept, precision
from merging.export.sidecar import sentences, write_words
from merging.io import hub
from merging.runtime.progress import Progress


def add_convert(sub: argparse.ArgumentParser) -> None:
    """The options of ``convert``."""
    sub.add_argument("file", type=Path, metavar="IN", help="an adapter of any family")
    sub.add_argument("out", type=Path, metavar="OUT", help="the adapter to write")
    sub.add_argument("--format", choices=formats.WRITERS, default="kohya")
    sub.add_argument("--dtype", choices=formats.DTYPES, help="if not as in the file")
    sub.add_argument("--rank", type=int, metavar="N", help="of every layer, at most")
    sub.add_argument("--base", help="base model, for families that depend on its weights")
    sub.set_defaults(run=run_convert)


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
    text = f"{options.out}: {adapter.family} to {options.format}, {dtype}, {ranks_text(adapter)}"
    return answer, f"{text}\n{written.sentence}{notes}"
