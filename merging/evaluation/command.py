"""The two commands that only measure: ``evaluate`` and ``bench``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from merging.diffusion.base import load_base
from merging.evaluation import base as base_figures
from merging.evaluation import pairs as pair_figures
from merging.evaluation.detector import load_detector
from merging.evaluation.shelf import shelf_pairs
from merging.evaluation.speed import bench, speed_table
from merging.evaluation.weight_speed import bench_weights, weights_table
from merging.progress import Progress

WHAT = {
    "base": (base_figures.evaluate_base, base_figures.table),
    "pairs": (pair_figures.evaluate_pairs, pair_figures.table),
    "grid": (pair_figures.evaluate_grid, pair_figures.table),
}

Command = Callable[[str, Callable], argparse.ArgumentParser]


def add_evaluation(command: Command, progress: Progress) -> None:
    """Add both commands to the parser that ``command`` makes subparsers for."""

    def run_evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """What the base and its LoRAs can do, their pairs in every way, or IterIS' options."""
        measure, table = WHAT[options.what]
        figures = measure(load_base("mini", options.device), load_detector(), progress)
        return figures, table(figures)

    evaluate = command("evaluate", run_evaluate)
    evaluate.add_argument("what", choices=WHAT)
    evaluate.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))

    measured = command("bench", run_bench)
    measured.add_argument("what", nargs="?", choices=("lockstep", "weights"), default="lockstep")
    measured.add_argument("--samples", type=int, default=50, help="prompts per LoRA")
    measured.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs")
    measured.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))


def run_bench(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The speed of a merge beside its limit for every bundled pair, or in weight space, to peft."""
    if options.what == "weights":
        result = bench_weights()
        return result, weights_table(result)
    base = load_base("mini", options.device)
    results = {
        name: bench(
            base, [entry.adapter(base.table) for entry in pair], options.samples, options.repeats
        )
        for name, pair in shelf_pairs().items()
    }
    return results, "\n\n".join(speed_table(result) for result in results.values())
