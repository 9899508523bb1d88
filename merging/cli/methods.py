"""The command `methods`: the table of methods, or of the ways to compose without merging."""

from __future__ import annotations

import argparse
from typing import TypedDict

from merging.cli.parser import CommandParser
from merging.diffusion.compose import COMPOSITIONS, CompositionData
from merging.methods import METHODS, MethodData
from merging.runtime.progress import Progress


def add_methods(sub: CommandParser) -> None:
    """One option: the other table."""
    sub.describe("[--compose] [--json]", "", "--compose --json")
    sub.essentials.add_argument(
        "--compose", action="store_true", help="list what render --compose takes instead"
    )
    sub.set_defaults(run=run_methods)


class MethodsAnswer(TypedDict, total=False):
    """Every method by name, or every composition."""

    methods: dict[str, MethodData]
    compositions: dict[str, CompositionData]


def run_methods(options: argparse.Namespace, _progress: Progress) -> tuple[MethodsAnswer, str]:
    """The table that is asked for."""
    return _compositions() if options.compose else _methods()


def _compositions() -> tuple[MethodsAnswer, str]:
    lines = ["| name | composition | what it does | cost | needs | order matters | source |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in COMPOSITIONS.items():
        needs = ", ".join(row.needs) or "nothing"
        cells = (row.title, row.summary, row.cost, needs, "yes" if row.ordered else "no")
        lines.append(f"| `{name}` | " + " | ".join([*cells, row.source]) + " |")
    rows = {name: row.as_dict() for name, row in COMPOSITIONS.items()}
    return {"compositions": rows}, "\n".join(lines)


def _methods() -> tuple[MethodsAnswer, str]:
    rows = {name: method.as_dict() for name, method in METHODS.items()}
    lines = ["| name | method | what it does | needs | strength is | source |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        cells = (row["title"], row["summary"], row["needs"], row["strength"], row["source"])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return {"methods": rows}, "\n".join(lines)
