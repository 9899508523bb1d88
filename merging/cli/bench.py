"""The command ``bench``: how fast merges and pictures are on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merging.adapter import Adapter
from merging.benchmarks.growth import SAMPLES, bench_growth, growth_plot, growth_table
from merging.benchmarks.machine import machine
from merging.benchmarks.merge_speed import ROUNDS, bench, speed_table
from merging.benchmarks.peft_speed import bench_weights, weights_table
from merging.benchmarks.render_speed import bench_pictures, pictures_table
from merging.benchmarks.write_speed import bench_writing, writing_table
from merging.bundled import shelf_pairs
from merging.cli.arguments.merge_options import add_device, add_option, add_preset
from merging.cli.parser import CommandParser
from merging.diffusion.base import Base, load_base, pick_device
from merging.diffusion.random_sd15 import random_adapter, random_sd15
from merging.errors import MergeError
from merging.options import MergeOptions, merge_options
from merging.presets import preset_options
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, part, prefixed

MEASURED = ("targets", "mode", "teacher", "rows")  # options of a merge that bench has too


def add_bench(sub: CommandParser) -> None:
    """The options of ``bench``."""
    sub.describe("[WHAT] [options]", "mini --repeats 1", "growth --plot growth.png")
    sub.essentials.add_argument(
        "what",
        nargs="?",
        choices=BENCHES,
        default="mini",
        metavar="WHAT",
        help=f"{', '.join(BENCHES)} (default: mini)",
    )
    add_preset(sub, "paper")
    sub.files.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the growth as a plot (default: no picture)"
    )
    _add_measure(sub)
    for name in MEASURED:
        add_option(sub, merge_options()[name])
    add_device(sub)
    sub.set_defaults(run=run_bench)


def _add_measure(sub: CommandParser) -> None:
    """How much is measured."""
    add = sub.experts.add_argument
    text = f"calibration prompts per LoRA (default: 50, of growth {SAMPLES})"
    add("--samples", type=int, metavar="N", help=text)
    add("--repeats", type=int, metavar="N", default=3, help="runs; the fastest one counts")
    text = "rounds of the paper's loop; 0: none"
    add("--rounds", type=int, metavar="N", default=ROUNDS, help=text)
    add("--side", type=int, metavar="N", default=64, help="side of SD 1.5's latents")


def run_bench(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """How fast: a merge beside its limit (mini, sd15 in shape), growth, beside peft; pictures."""
    measure, table = BENCHES[options.what]
    _check_bench(options)
    results = measure(options, progress)
    progress(1.0, "measured")
    footer = f"Measured on {machine(str(pick_device(options.device)))}; `{options.command_line}`."
    tables = [table(result) for result in results.values()]
    return {**results, "machine": footer}, "\n\n".join([*tables, footer])


def _check_bench(options: argparse.Namespace) -> None:
    """MergeError for options that make no sense here; MergeRequest checks those of a merge."""
    if options.plot and options.what != "growth":
        raise MergeError(f"--plot works with growth only, not with {options.what}; leave it out.")
    if options.repeats < 1 or options.rounds < 0:
        raise MergeError(
            f"Repeats must be at least 1 and rounds at least 0, not {options.repeats} and "
            f"{options.rounds}."
        )
    if options.side < 8 or options.side % 8:
        raise MergeError(f"The side of latents must be a multiple of 8, not {options.side}.")


def _bench_mini(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    base = load_base("mini", options.device)
    pairs, results = shelf_pairs(), {}
    for place, (name, pair) in enumerate(pairs.items()):
        adapters = [entry.adapter(base.table) for entry in pair]
        pair_progress = prefixed(part(progress, place / len(pairs), (place + 1) / len(pairs)), name)
        results[name] = _bench(base, adapters, options, pair_progress)
    return results


def _bench_sd15(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    progress(0.0, "building the model")
    base = random_sd15(options.side, device=options.device)
    marks = {"cross-attention": [".attn2."], "attention": [".attn"], "all": [".attentions."]}
    targets = getattr(options, "targets", MergeOptions.targets)
    pair = [random_adapter(base, marks[targets], 16, seed) for seed in (1, 2)]
    return {"sd15": _bench(base, pair, options, progress, trajectories=False)}


def _bench(
    base: Base,
    pair: Sequence[Adapter],
    options: argparse.Namespace,
    progress: Progress,
    trajectories: bool = True,
) -> dict[str, Any]:
    flags = {name: value for name, value in vars(options).items() if name in MEASURED}
    samples = {} if options.samples is None else {"samples": options.samples}
    settings = {**preset_options(options.preset), **flags, **samples}
    request = MergeRequest(tuple(map(Source, pair)), **settings)
    return bench(base, request, options.repeats, options.rounds, trajectories, progress)


def _bench_growth(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    samples = SAMPLES if options.samples is None else options.samples
    result = bench_growth(samples, options.device, progress)
    if options.plot:
        growth_plot(result).save(options.plot)
    return {"growth": result}


def _bench_weights(_options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    return {"weights": bench_weights(progress)}


def _bench_pictures(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    base = load_base("mini", options.device)
    pair = next(iter(shelf_pairs().values()))
    adapters = [entry.adapter(base.table) for entry in pair]
    return {"pictures": bench_pictures(base, adapters, options.repeats, progress=progress)}


def _bench_writing(_options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    return {"writing": bench_writing(progress=progress)}


BENCHES = {
    "mini": (_bench_mini, speed_table),
    "sd15": (_bench_sd15, speed_table),
    "growth": (_bench_growth, growth_table),
    "weights": (_bench_weights, weights_table),
    "pictures": (_bench_pictures, pictures_table),
    "writing": (_bench_writing, writing_table),
}
