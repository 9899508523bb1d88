"""The command `merge`: files in, one adapter file out, and the files beside it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from merging import formats
from merging.analysis.plots import report_plot
from merging.cli.arguments.merge_options import add_merge_options, needs_base, request_of
from merging.cli.output import SavedMerge, describe_merge
from merging.cli.parser import CommandParser
from merging.export.save import recipe_base, save
from merging.export.sidecar import preview_prompt, write_preview, write_sidecar
from merging.methods import METHODS
from merging.options import MergeOptions
from merging.python_api import merge
from merging.runtime.progress import Progress


def add_merge(sub: CommandParser) -> None:
    """The options of ``merge``."""
    sub.describe(
        "FILE[@STRENGTH]… --out OUT.safetensors [options]",
        "cat.safetensors dog.safetensors --out both.safetensors",
        "cat.safetensors@0.8 owner/repo --base sd15 --preset fast --preview --out both.safetensors",
    )
    add_merge_options(sub)
    sub.essentials.add_argument(
        "--method",
        choices=METHODS,
        default=MergeOptions.method,
        metavar="METHOD",
        help="how to merge; the command methods lists what there is",
    )
    sub.essentials.add_argument(
        "-o", "--out", type=Path, required=True, help="the adapter to write"
    )
    sub.files.add_argument(
        "--sidecar", action="store_true", help="write OUT.json for A1111 and others"
    )
    sub.files.add_argument(
        "--preview",
        nargs="?",
        const="",
        metavar="PROMPT",
        help="draw OUT.preview.png; without PROMPT of all triggers (default: no picture)",
    )
    sub.files.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        help="draw the report, layer by layer (default: no picture)",
    )
    sub.set_defaults(run=run_merge)


class MergeAnswer(SavedMerge, total=False):
    """The merge, and the files written beside it."""

    sidecar: str
    preview: str


def run_merge(options: argparse.Namespace, progress: Progress) -> tuple[MergeAnswer, str]:
    """Merge the files, write the adapter and the files that the options ask for beside it.

    The base model is loaded only if the method, a file or the preview needs it.
    """
    base = None  # and diffusers, which takes seconds, is not even imported
    if options.preview is not None or needs_base(options, options.method):
        from merging.diffusion.base import load_base

        base = load_base(options.base, options.device, options.precision)
    request = request_of(options, base, options.method)
    prompt = None if options.preview is None else preview_prompt(request, options.preview)
    checkpoint = options.out.with_name(f"{options.out.name}.refining")
    result = merge(request, base, progress, checkpoint=checkpoint)
    merged_on = recipe_base(base, request.sources[0].adapter.base)
    saved = save(result, options.out, options.format, options.dtype, base, merged_on)
    shutil.rmtree(checkpoint, ignore_errors=True)
    merge_data, text = describe_merge(saved, result)
    answer: MergeAnswer = {**merge_data}
    if options.sidecar:
        answer["sidecar"] = str(write_sidecar(request, result.adapter, options.out))
    if base and prompt is not None:
        saved_form = formats.adapter_in_format(result.adapter, options.format)
        picture = write_preview(base, saved_form, prompt, request, options.out, progress)
        answer["preview"] = str(picture)
    if options.plot:
        report_plot(result.report).save(options.plot)
    return answer, text
