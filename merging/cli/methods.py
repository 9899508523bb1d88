"""The command `methods`: the table of methods."""

from __future__ import annotations

import argparse
from typing import Any

from merging.methods import METHODS
from merging.runtime.progress import Progress


def add_methods(sub: argparse.ArgumentParser) -> None:
    """It has no options."""
    sub.set_defaults(run=run_methods)


def run_methods(_options: argparse.Namespace, _progress: Progress) -> tuple[dict[str, Any], str]:
    """The table of methods."""
    fields = ("title", "summary", "needs", "strength", "source")
    rows = {name: {key: getattr(entry, key) for key in fields} for name, entry in METHODS.items()}
    lines = ["| name | method | what it does | needs | strength is | source |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        cells = (row["title"], row["summary"], row["needs"], row["strength"], row["source"])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return {"methods": rows}, "\n".join(lines)
