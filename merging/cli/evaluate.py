"""The command `evaluate`: how well the base model draws, and the contest of methods."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from merging.base_models import MINI
from merging.cli.arguments.merge_options import BASES, add_device
from merging.cli.arguments.worker_options import add_workers, read_workers, reading_device
from merging.cli.parser import CommandParser
from merging.diffusion.base import Base, BaseChoice, load_base
from merging.errors import MergeError
from merging.evaluation import base_quality as base_figures
from merging.evaluation import judge_agreement
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cases import Case, select_cases
from merging.evaluation.contest import run
from merging.evaluation.contest import table as contest_table
from merging.evaluation.contestants import CONTESTANTS, QUICK
from merging.evaluation.detector import Detector, load_detector
from merging.evaluation.leaderboard import write_page
from merging.evaluation.retrieval import evaluate_retrieval
from merging.evaluation.retrieval import table as retrieval_table
from merging.evaluation.spread import ArenaChoice, Spread
from merging.evaluation.studies import block_roles, carrying
from merging.evaluation.user_cases import protocol_cases
from merging.evaluation.variants import ENTRANTS
from merging.retrieval.clip_reader import load_reader
from merging.runtime.progress import Progress

QUICK_PICTURES = 8
STUDIES: Mapping[str, Any] = {"carry": carrying, "blocks": block_roles}  # measure and table


def add_evaluate(sub: CommandParser) -> None:
    """The options of ``evaluate``; most are those of “concepts” and “judge”."""
    sub.describe(
        "base|concepts|judge|retrieval|carry|blocks [options]",
        "base",
        "concepts --protocol mine.yaml --contestant sum tsv iteris --page",
    )
    add = sub.essentials.add_argument
    add(
        "what",
        choices=("base", "concepts", "judge", "retrieval", *STUDIES),
        help="base: the embedded model and its LoRAs; concepts: the contest, with these options; "
        "judge: how often render's judge agrees with the detector on the contest's pictures; "
        "retrieval: how well the library's suggestions find the LoRAs of a prompt; "
        "carry: what of a LoRA there is on another fine-tune; blocks: which blocks of LoRAs carry "
        "the look, and which the layout",
    )
    add("--quick", action="store_true", help="pairs of the tuning split, 8 pictures")
    add("--base", default="mini", help=BASES)
    add("-o", "--out", type=Path, default=Path("evaluation"), help="folder of results")
    sub.files.add_argument(
        "--protocol", type=Path, help="YAML file with your own cases (default: the bundled LoRAs)"
    )
    sub.files.add_argument(
        "--page", action="store_true", help="write OUT/index.html too, with costs and pictures"
    )
    _add_contest(sub)
    add_workers(sub)
    add_device(sub)
    sub.set_defaults(run=run_evaluate)


def _add_contest(sub: CommandParser) -> None:
    """Which part of the contest, and how its pictures are drawn."""
    add = sub.experts.add_argument
    add("--split", choices=("tuning", "test", "all"), default="all", help="part of the cases")
    add(
        "--case",
        nargs="*",
        metavar="NAME",
        help="these cases only (default: all of the split); of carry and blocks, triggers of LoRAs",
    )
    add(
        "--contestant",
        nargs="*",
        choices=ENTRANTS,
        metavar="NAME",
        help=f"these only: {', '.join(ENTRANTS)} (default: the ways that methods.md compares)",
    )
    add("--pictures", type=int, metavar="N", default=40, help="pictures per kind and case")
    add("--steps", type=int, metavar="N", default=25, help="sampling steps of a picture")
    add(
        "--guidance",
        type=float,
        metavar="N",
        help="how closely to follow the prompt (default: the best for the base model)",
    )


def run_evaluate(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """Measure the embedded base and its LoRAs, or run the contest of ways to combine concepts."""
    if options.what == "concepts":
        results = run_concepts(options, progress)
        return results, contest_table(results)
    if options.what == "judge":
        return run_judge(options, progress)
    base = load_base(MINI.name, options.device)
    if options.what == "retrieval":
        found = evaluate_retrieval(base, load_reader(), options.out / "previews", progress)
        return {"retrieval": [asdict(row) for row in found]}, retrieval_table(found)
    if options.what in STUDIES:
        return _run_study(options, base, progress)
    figures = base_figures.evaluate_base(base, load_detector(), progress)
    return figures, base_figures.table(figures)


def _run_study(
    options: argparse.Namespace, base: Base, progress: Progress
) -> tuple[dict[str, Any], str]:
    study, how = STUDIES[options.what], (options.case, options.pictures, options.steps)
    rows = study.measure(base, load_detector(), *how, progress)
    return {"rows": [asdict(row) for row in rows]}, study.table(rows)


def run_concepts(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The contest, with the bundled LoRAs' cases or the user's own."""
    workers = read_workers(options)
    choice = ArenaChoice(
        BaseChoice(options.base, reading_device(options)), options.steps, options.guidance
    )
    arena = choice.arena(options.out)
    cases = _cases_of(options, arena.base, arena.scorers.detector)
    keys = options.contestant or (QUICK if options.quick else list(CONTESTANTS))
    theirs = replace(choice, base=BaseChoice(options.base, options.device))
    spread = Spread(workers, theirs) if workers else None
    figures = run(arena, keys, cases, progress, spread)
    if options.page:
        write_page(arena, keys, cases, figures)
    return figures


def run_judge(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """Compare the judge with the detector; MergeError for cases that the detector cannot tell."""
    choice = ArenaChoice(BaseChoice(options.base, options.device), options.steps, options.guidance)
    arena = choice.arena(options.out)
    detector = arena.scorers.detector
    cases = judge_agreement.judged_cases(_cases_of(options, arena.base, detector))
    if detector is None or not cases:
        raise MergeError("The judge is compared on cases of the bundled LoRAs without a style.")
    looks = judge_agreement.looks(arena, detector, cases, progress)
    return {"looks": [asdict(look) for look in looks]}, judge_agreement.table(looks)


def _cases_of(
    options: argparse.Namespace, base: Base, detector: Detector | None
) -> tuple[Case, ...]:
    if options.protocol is not None:
        cases = protocol_cases(options.protocol)
    elif detector is None:
        raise MergeError(
            f"The bundled LoRAs do not fit {base.name}; give your own cases with --protocol."
        )
    elif options.quick:
        cases = shelf_cases("tuning", QUICK_PICTURES, detector.things)
        cases = tuple(case for case in cases if case.kind == "objects")
    else:
        cases = shelf_cases(options.split, options.pictures, detector.things)
    return cases if options.case is None else select_cases(cases, options.case)
