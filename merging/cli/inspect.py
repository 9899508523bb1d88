"""The command `inspect`: what a file is.

It does without torch, which takes seconds to import, unless the weights are read (``--values``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from merging.analysis.summary import EmbeddingSummary, LoraSummary, Summary, summary
from merging.cli.parser import CommandParser
from merging.formats.vector_deltas import describe_counts
from merging.runtime.progress import Progress

if TYPE_CHECKING:
    from merging.analysis.findings import Finding  # which imports torch
    from merging.formats.families.layer_tensors import BaseWeights

HEADERS_ONLY = "The weights were not read: --values reads them and reports what is unusual in them."


def add_inspect(sub: CommandParser) -> None:
    """The options of ``inspect``."""
    sub.describe("FILE… [options]", "cat.safetensors", "cat.safetensors --values --json")
    sub.essentials.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="LoRAs or textual inversions"
    )
    text = "read the weights too, and report what is unusual in them, alone and together"
    sub.experts.add_argument("--values", action="store_true", help=text)
    sub.add_weights_base()
    sub.set_defaults(run=run_inspect)


class InspectAnswer(TypedDict):
    """A summary of every file, in the order of the command line."""

    files: list[Summary]
    findings: list[Finding]  # with --values: what is unusual in the weights, alone and together


def run_inspect(options: argparse.Namespace, _progress: Progress) -> tuple[InspectAnswer, str]:
    """Read every file's header (with ``--values`` its weights too) and describe it."""
    weights = None
    if options.base:
        from merging.diffusion.base import load_base  # with diffusers

        weights = load_base(options.base, "cpu").weight
    paths = [_local_path(path) for path in options.files]
    summaries = [summary(path, options.values, weights) for path in paths]
    findings = _findings(paths, summaries, weights) if options.values else []
    text = "\n\n".join(_text(file) for file in summaries)
    notes = [f"finding  {finding.sentence}" for finding in findings]
    lines = _plain_lines(notes if options.values else [HEADERS_ONLY])
    return {"files": summaries, "findings": findings}, "\n\n".join(filter(None, [text, lines]))


def _findings(
    paths: Sequence[Path], summaries: Sequence[Summary], weights: BaseWeights | None
) -> list[Finding]:
    """What is unusual in the LoRAs among the files; those for other bases are not compared."""
    from merging import formats
    from merging.analysis.findings import findings

    loras = [
        formats.read(path, weights=weights)
        for path, file in zip(paths, summaries, strict=True)
        if "layers" in file
    ]
    bases = dict.fromkeys(lora.base for lora in loras)
    return [
        finding
        for base in bases
        for finding in findings([lora for lora in loras if lora.base == base])
    ]


def _local_path(path: Path) -> Path:
    """The file's path, downloaded if it is on the Hub."""
    if path.exists():
        return path
    from merging.io import hub  # its client takes longer to import than a header to read

    return hub.resolve_file(path).path


def _text(file: Summary) -> str:
    """The description of one file."""
    return _lora_card(file) if "layers" in file else _embedding_card(file)


def _lora_card(file: LoraSummary) -> str:
    layers, in_base = file["layers"], file["base_layers"]
    matched = ", ".join(f"{layers[part]} of {in_base[part]} {part}" for part in layers)
    lines = [
        f"{file['name']}: {file['family']} for {file['base']}",
        f"  size     {file['bytes'] / 2**20:.1f} MiB, {_counts_text(file['dtypes'])}",
        f"  layers   {matched}, {len(file['unmatched'])} unmatched",
        f"  ranks    {_counts_text(file['rank_counts']) or 'only with --values'}",
        f"  alphas   {_counts_text(file['alpha_counts']) or 'none'}",
        f"  trigger  {file['trigger'] or 'none in the file'}",
        *([f"  class    {file['class_word']}"] if file["class_word"] else []),
        *(
            f"  words    {field}: {', '.join(words)}"
            for field, words in file["trained_words"].items()
        ),
        f"  sha256   {file['sha256'] or 'with --values'}",
        *(f"  hash     {field} {value}" for field, value in file["hashes"].items()),
    ]
    if file["needs_base"]:
        lines.append("  needs    the base model's weights to be read (--base)")
    if file["shifts"]:
        lines.append(f"  beside   {describe_counts(file['shifts'])}")
    lines += _embedding_lines(file)
    lines += [f"  left out {kind}: {', '.join(keys)}" for kind, keys in file["left_out"].items()]
    norms = file.get("block_norms", {})
    lines += [f"  ‖Δ‖      {block} {norm:.3g}" for block, norm in norms.items()]
    return _plain_lines(lines + [f"  warning  {warning}" for warning in file["warnings"]])


def _embedding_card(file: EmbeddingSummary) -> str:
    """The description of a file that has textual inversions only."""
    title = f"{file['name']}: {file['family']} for {file['base']}"
    return _plain_lines([title, *_embedding_lines(file), f"  sha256   {file['sha256']}"])


def _plain_lines(lines: list[str]) -> str:
    """The lines as text; control characters of a header are escaped, for they steer a terminal."""
    plain = (
        "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
        for line in lines
    )
    return "\n".join(plain)


def _embedding_lines(file: Summary) -> list[str]:
    return [f"  embeds   {word}, {count} vectors" for word, count in file["embeddings"].items()]


def _counts_text(counts: dict[str, int]) -> str:
    """Values with their counts; a single value without its count."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} × {count}" for value, count in counts.items())
