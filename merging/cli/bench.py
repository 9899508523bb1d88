"""The two commands that only measure: ``evaluate`` and ``bench``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from merging.adapter import Adapter
from merging.benchmarks.growth import SAMPLES, bench_growth, growth_plot, growth_table
from merging.benchmarks.machine import machine
from merging.benchmarks.merge_speed import ROUNDS, bench, speed_table
from merging.benchmarks.peft_speed import bench_weights, weights_table
from merging.benchmarks.render_speed import bench_pictures, pictures_table
from merging.bundled import shelf_pairs
from merging.cli.arguments import rows
from merging.diffusion.base import Base, load_base, pick_device
from merging.diffusion.random_sd15 import random_adapter, random_sd15
from merging.errors import MergeError
from merging.evaluation import base_quality as base_figures
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cases import Case, chosen
from merging.evaluation.cells import Arena
from merging.evaluation.contest import run
from merging.evaluation.contest import table as contest_table
from merging.evaluation.contestants import CONTESTANTS, QUICK
from merging.evaluation.detector import Detector, load_detector
from merging.evaluation.metrics import Scorers
from merging.evaluation.user_cases import protocol_cases
from merging.evaluation.variants import ENTRANTS
from merging.options import Mode, Targets, Teacher
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, part, saying
from merging.scoring.clip import clip_of, load_clip

QUICK_PICTURES = 8
GUIDANCE = 7.5  # what people draw with on every base but the embedded one


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    evaluate.add_argument("what", choices=("base", "concepts"))
    evaluate.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    contest = evaluate.add_argument_group("of “concepts”")
    contest.add_argument("--base", default="mini", help="mini, sd15, a folder or a Hub id")
    contest.add_argument("--protocol", type=Path, help="cases of your own, a YAML file")
    contest.add_argument("--split", choices=("tuning", "test", "all"), default="all")
    contest.add_argument("--case", nargs="*", help="these cases only, by name")
    contest.add_argument("--contestant", nargs="*", help=f"these only: {', '.join(ENTRANTS)}")
    contest.add_argument("--pictures", type=int, default=40, help="of each kind and case")
    contest.add_argument("--steps", type=int, default=25)
    contest.add_argument(
        "--guidance", type=float, help=f"{Arena.guidance:g} on the embedded base, else {GUIDANCE:g}"
    )
    contest.add_argument(
        "--quick", action="store_true", help="pairs of the tuning split, 8 pictures"
    )
    contest.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of results")
    evaluate.set_defaults(run=run_evaluate)


def add_bench(measured: argparse.ArgumentParser) -> None:
    """The options of ``bench``."""
    measured.add_argument("what", nargs="?", choices=BENCHES, default="mini")
    measured.add_argument("--samples", type=int, help="prompts per LoRA: 50, of growth 30")
    measured.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs")
    measured.add_argument("--rounds", type=int, default=ROUNDS, help="of the paper's loop; 0: none")
    measured.add_argument("--targets", choices=get_args(Targets), default="attention")
    measured.add_argument("--mode", choices=get_args(Mode), default=MergeRequest.mode)
    measured.add_argument("--teacher", choices=get_args(Teacher), default=MergeRequest.teacher)
    measured.add_argument("--rows", type=rows, metavar="N|all", default=MergeRequest.rows)
    measured.add_argument("--side", type=int, default=64, help="of SD 1.5's latents")
    measured.add_argument("--plot", type=Path, metavar="PNG", help="draw the growth")
    measured.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    measured.set_defaults(run=run_bench)


def run_evaluate(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """How well: the embedded base and its LoRAs, or the contest of ways to combine concepts."""
    if options.what == "concepts":
        found = run_concepts(options, progress)
        return found, contest_table(found)
    base = load_base("mini", options.device)
    figures = base_figures.evaluate_base(base, load_detector(), progress)
    return figures, base_figures.table(figures)


def run_concepts(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The contest, on the shelf's cases or on the user's own."""
    base = load_base(options.base, options.device)
    detector = load_detector() if base.table.name == "mini" else None
    scorers = Scorers(load_clip(clip_of(base.table.name)), detector)
    cases = _wanted_cases(options, base, scorers.detector)
    keys = options.contestant or (QUICK if options.quick else list(CONTESTANTS))
    usual = GUIDANCE if detector is None else Arena.guidance
    guidance = usual if options.guidance is None else options.guidance
    arena = Arena(base, scorers, options.out, options.steps, guidance)
    return run(arena, keys, cases, progress)


def _wanted_cases(
    options: argparse.Namespace, base: Base, detector: Detector | None
) -> tuple[Case, ...]:
    if options.protocol is not None:
        cases = protocol_cases(options.protocol)
    elif detector is None:
        raise MergeError(f"The shelf's LoRAs do not fit {base.name}; name your own by --protocol.")
    elif options.quick:
        cases = shelf_cases("tuning", QUICK_PICTURES, detector.things)
        cases = tuple(case for case in cases if case.kind == "objects")
    else:
        cases = shelf_cases(options.split, options.pictures, detector.things)
    return cases if options.case is None else chosen(cases, options.case)


def run_bench(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """How fast: a merge beside its limit (mini, sd15 in shape), growth, beside peft; pictures."""
    measure, table = BENCHES[options.what]
    _check_bench(options)
    results = measure(options, progress)
    progress(1.0, "measured")
    on = f"Measured on {machine(str(pick_device(options.device)))}; `{options.written}`."
    tables = [table(result) for result in results.values()]
    return {**results, "machine": on}, "\n\n".join([*tables, on])


def _check_bench(options: argparse.Namespace) -> None:
    """MergeError for what cannot be measured; the request checks its own."""
    if options.plot and options.what != "growth":
        raise MergeError(f"--plot draws the growth alone, not {options.what}; leave it out.")
    if options.repeats < 1 or options.rounds < 0:
        raise MergeError(
            f"Repeats must be at least 1 and rounds at least 0, not {options.repeats} and "
            f"{options.rounds}."
        )
    if options.side < 8 or options.side % 8:
        raise MergeError(f"The side of latents must be 8, 16, 24 or so on, not {options.side}.")


def _bench_mini(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    base = load_base("mini", options.device)
    pairs, found = shelf_pairs(), {}
    for place, (name, pair) in enumerate(pairs.items()):
        adapters = [entry.adapter(base.table) for entry in pair]
        told = saying(part(progress, place / len(pairs), (place + 1) / len(pairs)), name)
        found[name] = _bench(base, adapters, options, told)
    return found


def _bench_sd15(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    progress(0.0, "making the model")
    base = random_sd15(options.side, device=options.device)
    marks = {"cross-attention": [".attn2."], "attention": [".attn"], "all": [".attentions."]}
    pair = [random_adapter(base, marks[options.targets], 16, seed) for seed in (1, 2)]
    return {"sd15": _bench(base, pair, options, progress, trajectories=False)}


def _bench(
    base: Base,
    pair: Sequence[Adapter],
    options: argparse.Namespace,
    progress: Progress,
    trajectories: bool = True,
) -> dict[str, Any]:
    request = MergeRequest(
        tuple(map(Source, pair)),
        samples=MergeRequest.samples if options.samples is None else options.samples,
        targets=options.targets,
        mode=options.mode,
        teacher=options.teacher,
        rows=options.rows,
    )
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


BENCHES = {
    "mini": (_bench_mini, speed_table),
    "sd15": (_bench_sd15, speed_table),
    "growth": (_bench_growth, growth_table),
    "weights": (_bench_weights, weights_table),
    "pictures": (_bench_pictures, pictures_table),
}
