"""The commands `pack` and `unpack`: many LoRAs in one file, and one of them as a file again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from merging import formats
from merging.cli.arguments.file_argument import parse_file_argument
from merging.cli.arguments.merge_options import FORMATS
from merging.cli.output import ranks_text, with_notes
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.errors import MergeError
from merging.export.convert import adapter_metadata
from merging.export.save import SavedData, save_adapter
from merging.packs.pack_file import PackHeader, read_pack_header, read_packed
from merging.packs.packing import Packed, Tally, pack
from merging.runtime.progress import Progress


def add_pack(sub: CommandParser) -> None:
    """The options of ``pack``."""
    sub.describe(
        "FILE FILE… --out PACK [options]",
        "cat.safetensors dog.safetensors owl.safetensors --out shelf.safetensors",
        "loras/*.safetensors --out shelf.safetensors --keep 0.99",
    )
    sub.essentials.add_argument("files", nargs="+", metavar="FILE", help="LoRAs of one base model")
    sub.essentials.add_argument("-o", "--out", type=Path, required=True, help="the pack to write")
    add = sub.files.add_argument
    add("--dtype", choices=formats.DTYPES, default="fp16", help="numbers of the file")
    text = "share of every layer's energy that is kept; 1: all of it"
    add("--keep", type=float, metavar="SHARE", default=1.0, help=text)
    sub.add_weights_base()
    sub.set_defaults(run=run_pack)


def add_unpack(sub: CommandParser) -> None:
    """The options of ``unpack``."""
    sub.describe(
        "PACK [--name NAME --out OUT] [options]",
        "shelf.safetensors",
        "shelf.safetensors --name cat --out cat.safetensors",
    )
    add = sub.essentials.add_argument
    add("pack", type=Path, metavar="PACK", help="a file that the command pack has written")
    add("--name", help="the LoRA to write (default: none, list them)")
    add("-o", "--out", type=Path, help="the file to write (default: NAME.safetensors)")
    sub.files.add_argument("--format", choices=formats.WRITERS, default="kohya", help=FORMATS)
    sub.files.add_argument(
        "--dtype", choices=formats.DTYPES, default="fp16", help="numbers of the file"
    )
    sub.set_defaults(run=run_unpack)


class PackedRow(TypedDict):
    """One LoRA of a pack."""

    name: str
    error: float  # ‖Δ' − Δ‖ / ‖Δ‖ over all layers


class TradeOffRow(TypedDict):
    """What a pack that keeps less would be."""

    keep: float
    share: float  # of the numbers in the LoRAs themselves
    apart: float  # the same if every LoRA were cut by itself
    errors: list[float]


class PackAnswer(TypedDict):
    """A pack that was written."""

    out: str
    bytes: int
    share: float
    loras: list[PackedRow]
    trade_offs: list[TradeOffRow]


class PackContents(TypedDict):
    """The LoRAs of a pack."""

    pack: str
    base: str
    loras: list[PackedRow]


def run_pack(options: argparse.Namespace, progress: Progress) -> tuple[PackAnswer, str]:
    """Read the LoRAs, pack them, and say what it costs each."""
    if not 0 < options.keep <= 1:
        raise MergeError(f"--keep is a share above 0 and at most 1, not {options.keep:g}.")
    base = load_base(options.base, "cpu") if options.base else None
    adapters = [parse_file_argument(text).source(base).adapter for text in options.files]
    dtype = formats.DTYPES[options.dtype]
    packed = pack(adapters, options.out, dtype, options.keep, progress)
    names = [adapter.name for adapter in adapters]
    answer: PackAnswer = {
        "out": str(packed.path),
        "bytes": packed.bytes,
        "share": packed.tally.numbers / packed.tally.own,
        "loras": [
            {"name": name, "error": error}
            for name, error in zip(names, packed.tally.errors, strict=True)
        ],
        "trade_offs": [_trade_off(row) for row in packed.trade_offs],
    }
    return answer, _pack_text(packed, names)


def run_unpack(
    options: argparse.Namespace, _progress: Progress
) -> tuple[SavedData | PackContents, str]:
    """Write one LoRA of a pack as a file of its own, or list them."""
    if options.name is None:
        return _contents(options.pack, read_pack_header(options.pack))
    adapter = read_packed(options.pack, options.name)
    out = options.out or options.pack.with_name(f"{options.name}.safetensors")
    fields = adapter_metadata(adapter.metadata)
    saved = save_adapter(adapter, out, options.format, options.dtype, fields)
    text = f"{out}: {options.name} of {options.pack.name}, {ranks_text(adapter)}"
    return saved.as_dict(), with_notes(text, saved, adapter.warnings)


def _contents(pack: Path, header: PackHeader) -> tuple[PackContents, str]:
    rows: list[PackedRow] = [{"name": lora.name, "error": lora.error} for lora in header.loras]
    title = f"{pack}: {len(rows)} LoRAs for {header.base}, {len(header.layers)} layers"
    lines = [f"  {row['name']:<24} relative error {row['error']:.1e}" for row in rows]
    return {"pack": str(pack), "base": header.base, "loras": rows}, "\n".join([title, *lines])


def _trade_off(tally: Tally) -> TradeOffRow:
    return {
        "keep": tally.keep,
        "share": tally.numbers / tally.own,
        "apart": tally.apart / tally.own,
        "errors": tally.errors,
    }


def _pack_text(packed: Packed, names: Sequence[str]) -> str:
    """The pack, what each LoRA loses in it, and what smaller packs would be."""
    tally = packed.tally
    share = f"{tally.numbers / tally.own:.0%} of the LoRAs' own numbers"
    size = f"{packed.bytes / 2**20:.2f} MiB"
    lines = [
        f"{packed.path}: {len(names)} LoRAs, {packed.layers} layers, {size}; {share}",
        *(
            f"  {name:<24} relative error {error:.1e}"
            for name, error in zip(names, tally.errors, strict=True)
        ),
        "smaller packs, beside the same LoRAs cut each by itself:",
        "  --keep    size  by itself  error, mean and worst",
    ]
    lines += [
        f"  {row.keep:<6} {row.numbers / row.own:7.0%} {row.apart / row.own:10.0%}  "
        f"{sum(row.errors) / len(row.errors):7.1%} {max(row.errors):7.1%}"
        for row in packed.trade_offs
    ]
    return "\n".join(lines)
