"""IterIS Studio on the command line: several Stable Diffusion 1.5 LoRAs in, one adapter out.

Results go to standard output (one JSON object with --json), progress to standard error.
Exit status: 0 done, 2 bad input, 1 our fault.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from merging import formats, hub
from merging.asking import STRENGTHS, add_asking, add_base, add_words, asked
from merging.batch import add_batch
from merging.companions import preview_prompt, write_preview, write_sidecar, write_words
from merging.diffusion.base import load_base
from merging.diffusion.calibration import activations
from merging.diffusion.loading import checked
from merging.drawing import add_render, drawn
from merging.errors import MergeError
from merging.evaluation.command import add_evaluation
from merging.formats.shifts import in_words
from merging.meeting import add_meeting
from merging.merge import merge
from merging.methods import METHODS
from merging.plot import report_plot
from merging.rank_curve import add_ranks, run_ranks
from merging.recipe import header
from merging.request import MergeRequest
from merging.rewriting import add_rewriting, merged
from merging.summary import summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    written = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(written)
    options.written = shlex.join(["python", "-m", "merging", *written])
    try:
        answer, text = options.run(options)
    except MergeError as error:
        print(f"error: {error}", file=sys.stderr)
        if options.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return 2
    print(json.dumps(answer, ensure_ascii=False, indent=2) if options.json else text)
    return 0


def run_inspect(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What each file is."""
    base = load_base(options.base, "cpu") if options.base else None
    weights = base.weight if base else None
    found = [summary(hub.found(path).path, options.values, weights) for path in options.files]
    return {"files": found}, "\n\n".join(_card(entry) for entry in found)


def run_merge(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Files in, one adapter file out."""
    base = load_base(options.base, options.device, options.precision)
    request = asked(options, base, options.method)
    prompt = None if options.preview is None else preview_prompt(request, options.preview)
    result = merge(request, activations(base), _progress)
    fields = header(request, result, options.base, base.fingerprint, options.precision)
    dtype = formats.DTYPES[options.dtype]
    written = formats.WRITERS[options.format](result.adapter, options.out, dtype, fields)
    written = checked(base, options.out, result.adapter, written)
    answer, text = merged(options.out, written, result, write_words(result.adapter, options.out))
    if options.sidecar:
        answer["sidecar"] = str(write_sidecar(request, result.adapter, options.out))
    if prompt is not None:
        shown = formats.held(result.adapter, options.format)
        picture = write_preview(base, shown, prompt, request.seed, options.out, _progress)
        answer["preview"] = str(picture)
    if options.plot:
        report_plot(result.report).save(options.plot)
    return answer, text


def run_render(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Prompts in, PNG files out."""
    return drawn(options, _progress)


def run_methods(_options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The table of methods."""
    fields = ("title", "summary", "needs", "strength", "source")
    rows = {name: {key: getattr(entry, key) for key in fields} for name, entry in METHODS.items()}
    lines = ["| name | method | what it does | needs | strength is | source |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        cells = (row["title"], row["summary"], row["needs"], row["strength"], row["source"])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return {"methods": rows}, "\n".join(lines)


def _progress(share: float, text: str) -> None:
    print(f"\r{share:4.0%} {text:<60}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def _card(entry: dict[str, Any]) -> str:
    """One file in words."""
    if "layers" not in entry:
        return _card_of_words(entry)
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
        lines.append(f"  beside   {in_words(entry['shifts'])}")
    lines += _embeddings(entry)
    lines += [f"  left out {kind}: {', '.join(keys)}" for kind, keys in entry["left_out"].items()]
    norms = entry.get("block_norms", {})
    lines += [f"  ‖Δ‖      {block} {norm:.3g}" for block, norm in norms.items()]
    return "\n".join(lines + [f"  warning  {warning}" for warning in entry["warnings"]])


def _card_of_words(entry: dict[str, Any]) -> str:
    """A file of textual inversions alone."""
    title = f"{entry['name']}: {entry['family']} for {entry['base']}"
    return "\n".join([title, *_embeddings(entry), f"  sha256   {entry['sha256']}"])


def _embeddings(entry: dict[str, Any]) -> list[str]:
    return [f"  embeds   {word}, {count} vectors" for word, count in entry["embeddings"].items()]


def _counted(counts: dict[str, int]) -> str:
    """Values and how often each occurs; a single one stands alone."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} × {count}" for value, count in counts.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m merging", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.set_defaults(run=run)
        return sub

    inspect = command("inspect", run_inspect)
    inspect.add_argument("files", nargs="+", type=Path, metavar="FILE")
    inspect.add_argument("--values", action="store_true", help="read and check the weights too")
    inspect.add_argument("--base", help="base model, for families that depend on its weights")
    _add_merge(command("merge", run_merge))
    add_batch(command, _progress)
    add_meeting(command, STRENGTHS)
    add_rewriting(command, _progress)
    picture = command("render", run_render)
    add_base(picture)
    add_render(picture, STRENGTHS)
    add_words(picture)
    command("methods", run_methods)
    add_ranks(command("ranks", run_ranks))
    add_evaluation(command, _progress)
    return parser


def _add_merge(sub: argparse.ArgumentParser) -> None:
    add_asking(sub)
    default = MergeRequest.__dataclass_fields__["method"].default
    sub.add_argument("--method", choices=METHODS, default=default)
    sub.add_argument("--out", type=Path, required=True, help="the adapter to write")
    sub.add_argument("--sidecar", action="store_true", help="write OUT.json for A1111 and others")
    sub.add_argument(
        "--preview", nargs="?", const="", metavar="PROMPT", help="draw OUT.preview.png with it"
    )
    sub.add_argument("--plot", type=Path, metavar="PNG", help="draw the report, layer by layer")


if __name__ == "__main__":
    sys.exit(main())
