"""The command that merges: files in, one adapter file out, and what goes with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from merging import formats
from merging.analysis.plots import report_plot
from merging.cli.merge_options import add_merge_options, request_of
from merging.cli.output import SavedMerge, merged
from merging.diffusion.base import load_base
from merging.export.save import save
from merging.export.sidecar import preview_prompt, write_preview, write_sidecar
from merging.methods import METHODS
from merging.options import MergeOptions
from merging.python_api import merge
from merging.runtime.progress import Progress


def add_merge(sub: argparse.ArgumentParser) -> None:
    """Its options."""
    add_merge_options(sub)
    sub.add_argument("--method", choices=METHODS, default=MergeOptions.method)
    sub.add_argument("--out", type=Path, required=True, help="the adapter to write")
    sub.add_argument("--sidecar", action="store_true", help="write OUT.json for A1111 and others")
    sub.add_argument(
        "--preview", nargs="?", const="", metavar="PROMPT", help="draw OUT.preview.png with it"
    )
    sub.add_argument("--plot", type=Path, metavar="PNG", help="draw the report, layer by layer")
    sub.set_defaults(run=run_merge)


class MergeAnswer(SavedMerge, total=False):
    """The merge, and what was written beside it."""

    sidecar: str
    preview: str


def run_merge(options: argparse.Namespace, progress: Progress) -> tuple[MergeAnswer, str]:
    """Files in, one adapter file out."""
    base = load_base(options.base, options.device, options.precision)
    request = request_of(options, base, options.method)
    prompt = None if options.preview is None else preview_prompt(request, options.preview)
    result = merge(request, base, progress)
    saved = save(result, options.out, options.format, options.dtype, base)
    saved_merge, text = merged(saved, result)
    answer: MergeAnswer = {**saved_merge}
    if options.sidecar:
        answer["sidecar"] = str(write_sidecar(request, result.adapter, options.out))
    if prompt is not None:
        shown = formats.adapter_in_format(result.adapter, options.format)
        picture = write_preview(base, shown, prompt, request.seed, options.out, progress)
        answer["preview"] = str(picture)
    if options.plot:
        report_plot(result.report).save(options.plot)
    return answer, text
