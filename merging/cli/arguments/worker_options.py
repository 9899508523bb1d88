"""The options of commands whose work can be spread over workers."""

from __future__ import annotations

import argparse
from typing import get_args

from merging.cli.parser import CommandParser
from merging.workers import Place, Workers, workers_of


def add_workers(sub: CommandParser) -> None:
    """Add where the work is done, and how much of it at a time."""
    add = sub.experts.add_argument
    text = "where the work is done: on this machine, or on a Ray cluster"
    add("--executor", choices=get_args(Place), default="local", help=text)
    text = "how much is done at the same time; each slot loads the base model for itself"
    add("--slots", type=int, metavar="N", default=1, help=text)
    text = "the head of the Ray cluster (default: a cluster of this machine alone)"
    add("--ray-address", metavar="HOST:PORT", default="", help=text)


def read_workers(options: argparse.Namespace) -> Workers | None:
    """The workers that the options ask for; None is this process itself. As `workers_of`."""
    return workers_of(options.executor, options.slots, options.ray_address, options.device)


def reading_device(options: argparse.Namespace) -> str:
    """Where this process has its base model; one of a cluster's GPUs need not be here."""
    return "cpu" if options.executor == "ray" else str(options.device)
