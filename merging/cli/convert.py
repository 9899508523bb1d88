"""The command `convert`: an adapter of any family as another kind of file."""

from __future__ import annotations

import argparse
from pathlib import Path

from merging import formats
from merging.analysis.rank_curve import truncate_rank
from merging.cli.arguments.merge_options import ALL_FORMATS
from merging.cli.output import ranks_text, with_notes
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.export.convert import adapter_metadata, main_dtype
from merging.export.save import SavedData, save_adapter
from merging.io import hub
from merging.runtime.progress import Progress


def add_convert(sub: CommandParser) -> None:
    """The options of ``convert``."""
    sub.describe(
        "IN OUT [options]",
        "locon.safetensors lora.safetensors",
        "both.safetensors small.safetensors --rank 16",
    )
    sub.essentials.add_argument("file", type=Path, metavar="IN", help="an adapter of any family")
    sub.essentials.add_argument("out", type=Path, metavar="OUT", help="the adapter to write")
    sub.files.add_argument(
        "--format", choices=formats.ALL_WRITERS, default="kohya", help=ALL_FORMATS
    )
    sub.files.add_argument(
        "--dtype", choices=formats.DTYPES, help="numbers of the file (default: as they were)"
    )
    sub.files.add_argument(
        "--rank", type=int, metavar="N", help="largest rank of a layer (default: as it was)"
    )
    sub.files.add_argument(
        "--leave-out",
        action="store_true",
        help="leave out what no layer of the base can have (default: refuse such a file)",
    )
    sub.add_weights_base()
    sub.set_defaults(run=run_convert)


class ConvertAnswer(SavedData):
    """The written file, the family of the file it was made from, and what was lost."""

    family: str
    notes: tuple[str, ...]


def run_convert(options: argparse.Namespace, _progress: Progress) -> tuple[ConvertAnswer, str]:
    """Read an adapter of any family, write it for every program or for diffusers."""
    base = load_base(options.base, "cpu") if options.base else None
    table, weights = (base.table, base.weight) if base else (None, None)
    path = hub.resolve_file(options.file).path
    overview = formats.overview(path, table)
    adapter = formats.read(path, table, weights=weights, leave_out=options.leave_out)
    if options.rank is not None:
        adapter = truncate_rank(adapter, options.rank)
    dtype = options.dtype or main_dtype(overview.dtypes)
    saved = save_adapter(
        adapter, options.out, options.format, dtype, adapter_metadata(adapter.metadata), base
    )
    answer: ConvertAnswer = {
        **saved.as_dict(),
        "family": adapter.family,
        "notes": adapter.warnings,
    }
    text = f"{options.out}: {adapter.family} to {options.format}, {dtype}, {ranks_text(adapter)}"
    return answer, with_notes(text, saved, adapter.warnings)
