"""What every script here is told on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

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


def training(description: str, steps: int, rate: float, batch: int) -> argparse.ArgumentParser:
    """The same, and steps, rate, batch and seconds between checkpoints."""
    made = machine(description)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--rate", type=float, default=rate, help="highest learning rate")
    made.add_argument("--batch", type=int, default=batch)
    made.add_argument("--save-every", type=float, default=240.0, metavar="SECONDS")
    return made


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """What was given; the work folder is there and torch keeps to the threads."""
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    return given


def precision(given: argparse.Namespace) -> torch.autocast:
    """bfloat16 for matrix products where it was asked for; a context."""
    return torch.autocast(given.device, torch.bfloat16, enabled=given.bf16)
