"""What every script here is told on its command line."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from assets.build import training

PACE = 50  # steps between two looks at the pace
FAR = 10_000  # steps that are thought to be left before the first look

SHIPPED = Path(__file__).resolve().parents[2] / "mini-sd"  # its tokenizer serves this base as well


def machine(description: str) -> argparse.ArgumentParser:
    """Where the work lies, and what it runs on."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--work", type=Path, default=Path("build-work"), help="data, checkpoints")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--bf16", action="store_true", help="faster where the processor has it")
    made.add_argument("--renderers", type=int, default=1, help="processes that draw scenes")
    return made


def trainer(
    description: str, steps: int, rate: float, batches: dict[str, int]
) -> argparse.ArgumentParser:
    """The same, and steps, rate, batch (by device) and seconds between checkpoints."""
    made = machine(description)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--minutes", type=float, help="as many steps as fit, in place of --steps")
    made.add_argument("--rate", type=float, default=rate, help="highest learning rate")
    made.add_argument("--batch", type=int, help=f"default by device: {batches}")
    made.add_argument("--save-every", type=float, default=240.0, metavar="SECONDS")
    made.set_defaults(batches=batches)
    return made


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """What was given; the work folder is there and torch keeps to the threads."""
    given = options.parse_args()
    if "batches" in given:
        given.batch = given.batch or given.batches[given.device]
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    torch.backends.cudnn.benchmark = True  # shapes stay the same
    return given


def precision(given: argparse.Namespace) -> torch.autocast:
    """bfloat16 for matrix products where it was asked for; a context."""
    return torch.autocast(given.device, torch.bfloat16, enabled=given.bf16)


def run(
    given: argparse.Namespace,
    start: int,
    step: Callable[[int], float],
    keep: Callable[[int], None],
) -> None:
    """Train to `given.steps`, or for `given.minutes`: then the pace sets `given.steps`."""
    if given.minutes is None:
        training.run(given.steps, start, step, keep, given.save_every)
    else:
        keep(run_minutes(given, start, step))


def run_minutes(given: argparse.Namespace, start: int, step: Callable[[int], float]) -> int:
    """Step until the time is over; returns the number of steps behind the model.

    `given.steps` is estimated anew every `PACE` steps, so that the rates end where they should.
    """
    end, place, given.steps = time.monotonic() + given.minutes * 60, start, start + FAR
    while time.monotonic() < end:
        began = time.monotonic()
        losses = [step(place + number) for number in range(PACE)]
        place += PACE
        now = time.monotonic()
        pace = (now - began) / PACE
        given.steps = place + max(int((end - now) / pace), 1)
        loss = sum(losses) / PACE
        print(f"{place}/{given.steps} loss {loss:.4f} {pace:.4f} s/step", flush=True)
    return place
