"""The commands that only tell: what a file is, and which methods there are.

They need no torch, which takes seconds to import, unless the files' values are asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypedDict

from merging.analysis.summary import EmbeddingSummary, LoraSummary, Summary, summary
from merging.formats.vector_deltas import describe_counts
from merging.runtime.progress import Progress


def add_inspect(sub: argparse.ArgumentParser) -> None:
    """Its options."""
    sub.add_argument("files", nargs="+", type=Path, metavar="FILE")
    sub.add_argument("--values", action="store_true", help="read and check the weights too")
    sub.add_argument("--base", help="base model, for families that depend on its weights")
    sub.set_defaults(run=run_inspect)


class InspectAnswer(TypedDict):
    """What every file is, in the order of the command line."""

    files: list[Summary]


def run_inspect(options: argparse.Namespace, _progress: Progress) -> tuple[InspectAnswer, str]:
    """What each file is."""
    weights = None
    if options.base:
        from merging.diffusion.base import load_base  # with diffusers

        weights = load_base(options.base, "cpu").weight
    found = [summary(_here(path), options.values, weights) for path in options.files]
    return {"files": found}, "\n\n".join(_card(entry) for entry in found)


def _here(given: Path) -> Path:
    """The file, fetched if it is on the Hub."""
    if given.exists():
        return given
    from merging.io import hub  # whose client takes longer to import than a file to look at

    return hub.resolve_file(given).path


def _card(entry: Summary) -> str:
    """One file in words."""
    return _lora_card(entry) if "layers" in entry else _embedding_card(entry)


def _lora_card(entry: LoraSummary) -> str:
    layers, known = entry["layers"], entry["base_layers"]
    matched = ", ".join(f"{layers[part]} of {known[part]} {part}" for part in layers)
    lines = [
        f"{entry['name']}: {entry['family']} for {entry['base']}",
        f"  size     {entry['bytes'] / 2**20:.1f} MiB, {_counted(entry['dtypes'])}",
        f"  layers   {matched}, {len(entry['unmatched'])} unmatched",
        f"  ranks    {_counted(entry['rank_counts']) or 'known with the values only'}",
        f"  alphas   {_counted(entry['alpha_counts']) or 'none'}",
        f"  trigger  {entry['trigger'] or 'none in the file'}",
        *([f"  class    {entry['class_word']}"] if entry["class_word"] else []),
        *(f"  words    {field}: {', '.join(w)}" for field, w in entry["trained_words"].items()),
        f"  sha256   {entry['sha256'] or 'with --values'}",
        *(f"  hash     {field} {value}" for field, value in entry["hashes"].items()),
    ]
    if entry["needs_base"]:
        lines.append("  needs    the base model's weights to be read (--base)")
    if entry["shifts"]:
        lines.append(f"  beside   {describe_counts(entry['shifts'])}")
    lines += _embeddings(entry)
    lines += [f"  left out {kind}: {', '.join(keys)}" for kind, keys in entry["left_out"].items()]
    norms = entry.get("block_norms", {})
    lines += [f"  ‖Δ‖      {block} {norm:.3g}" for block, norm in norms.items()]
    return _shown(lines + [f"  warning  {warning}" for warning in entry["warnings"]])


def _embedding_card(entry: EmbeddingSummary) -> str:
    """A file of textual inversions alone."""
    title = f"{entry['name']}: {entry['family']} for {entry['base']}"
    return _shown([title, *_embeddings(entry), f"  sha256   {entry['sha256']}"])


def _shown(lines: list[str]) -> str:
    """Lines for a terminal, which a header's own signs must not command."""
    plain = ("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)
    return "\n".join(plain)


def _embeddings(entry: Summary) -> list[str]:
    return [f"  embeds   {word}, {count} vectors" for word, count in entry["embeddings"].items()]


def _counted(counts: dict[str, int]) -> str:
    """Values and how often each occurs; a single one stands alone."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} × {count}" for value, count in counts.items())
