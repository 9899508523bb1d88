"""The command `evaluate`: how well the base model draws, and the contest of methods."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from merging.base_models import MINI, base_model
from merging.diffusion.base import Base, load_base
from merging.errors import MergeError
from merging.evaluation import base_quality as base_figures
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cases import Case, select_cases
from merging.evaluation.cells import Arena
from merging.evaluation.contest import run
from merging.evaluation.contest import table as contest_table
from merging.evaluation.contestants import CONTESTANTS, QUICK
from merging.evaluation.detector import Detector, load_detector
from merging.evaluation.metrics import Scorers
from merging.evaluation.user_cases import protocol_cases
from merging.evaluation.variants import ENTRANTS
from merging.options import DEVICES
from merging.runtime.progress import Progress
from merging.scoring.clip import load_clip

QUICK_PICTURES = 8


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """The options of ``evaluate``."""
    evaluate.add_argument("what", choices=("base", "concepts"))
    evaluate.add_argument("--device", default="auto", choices=DEVICES)
    contest = evaluate.add_argument_group("options of “concepts”")
    contest.add_argument("--base", default="mini", help="mini, sd15, a folder or a Hub id")
    contest.add_argument("--protocol", type=Path, help="YAML file with your own cases")
    contest.add_argument("--split", choices=("tuning", "test", "all"), default="all")
    contest.add_argument("--case", nargs="*", help="these cases only, by name")
    contest.add_argument("--contestant", nargs="*", help=f"these only: {', '.join(ENTRANTS)}")
    contest.add_argument("--pictures", type=int, default=40, help="pictures per kind and case")
    contest.add_argument("--steps", type=int, default=25)
    contest.add_argument("--guidance", type=float, help="default: the best for the base model")
    contest.add_argument(
        "--quick", action="store_true", help="pairs of the tuning split, 8 pictures"
    )
    contest.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of results")
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], str]:
    """Measure the embedded base and its LoRAs, or run the contest of ways to combine concepts."""
    if options.what == "concepts":
        results = run_concepts(options, progress)
        return results, contest_table(results)
    base = load_base(MINI.name, options.device)
    figures = base_figures.evaluate_base(base, load_detector(), progress)
    return figures, base_figures.table(figures)


def run_concepts(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The contest, with the bundled LoRAs' cases or the user's own."""
    base = load_base(options.base, options.device)
    model = base_model(base.name)
    detector = load_detector(model.detector) if model.detector else None
    scorers = Scorers(load_clip(model.clip), detector)
    cases = _cases_of(options, base, scorers.detector)
    keys = options.contestant or (QUICK if options.quick else list(CONTESTANTS))
    guidance = model.guidance if options.guidance is None else options.guidance
    arena = Arena(base, scorers, options.out, options.steps, guidance)
    return run(arena, keys, cases, progress)


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
