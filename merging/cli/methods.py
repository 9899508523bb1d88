"""The command `methods`: the table of methods."""

from __future__ import annotations

import argparse
from typing import TypedDict

from merging.cli.parser import CommandParser
from merging.methods import METHODS, MethodData
from merging.runtime.progress import Progress


def add_methods(sub: CommandParser) -> None:
    """The command has no options of its own."""
    sub.describe("[--json]", "", "--json")
    sub.set_defaults(run=run_methods)


class MethodsAnswer(TypedDict):
    """Every method by name."""

    methods: dict[str, MethodData]


def run_methods(_options: argparse.Namespace, _progress: Progress) -> tuple[MethodsAnswer, str]:
    """The table of methods."""
    rows = {name: method.as_dict() for name, method in METHODS.items()}
    lines = ["| name | method | what it does | needs | strength is | source |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        cells = (row["title"], row["summary"], row["needs"], row["strength"], row["source"])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return {"methods": rows}, "\n".join(lines)
