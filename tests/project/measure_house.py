"""How large the house is: ``python -m tests.project.measure_house`` prints a table of it.

The table stands in docs/architecture.md. The length of a function is in lines, without its
docstring.
"""

from __future__ import annotations

import ast
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("merging", "app")
HEAD = "| | functions | median | p90 | longest | most .py in one folder | README lines |"


@dataclass(frozen=True)
class Measures:
    """One row of the table."""

    functions: int
    median: float  # lines
    p90: int  # lines
    longest: int  # lines
    folder: str  # the one with the most Python files
    files: int  # in that folder


def sources(*folders: str) -> list[Path]:
    """All Python files of these folders."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def statements(path: Path) -> tuple[ast.stmt, ...]:
    """All statements of a file, the inner ones too; a file is parsed once."""
    return tuple(_inner(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def _inner(node: ast.AST) -> Iterator[ast.stmt]:
    """No expression has a statement in it, so none is looked through."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _inner(child)


def functions(*paths: Path) -> dict[str, int]:
    """``file:line name`` of every function → its length."""
    lengths = {}
    for path in paths:
        for node in statements(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                lengths[where] = _span(node) - _docstring_span(node)
    return lengths


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_span(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _span(node.body[0]) if ast.get_docstring(node) is not None else 0


def files_per_folder(*paths: Path) -> Counter[str]:
    """Python files by the folder they lie in, packages' ``__init__.py`` left out."""
    counted = (path for path in paths if path.name != "__init__.py")
    return Counter(path.parent.relative_to(ROOT).as_posix() for path in counted)


def measures(package: str) -> Measures:
    """The row of one package."""
    paths = sources(package)
    lengths = sorted(functions(*paths).values())
    ((folder, files),) = files_per_folder(*paths).most_common(1)
    return Measures(
        functions=len(lengths),
        median=statistics.median(lengths),
        p90=lengths[int(0.9 * len(lengths))],
        longest=lengths[-1],
        folder=folder,
        files=files,
    )


def readme_lines() -> int:
    return len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())


def table(rows: Mapping[str, Measures], readme: int) -> str:
    """The rows in Markdown; the README's length stands in the first one."""
    lines = [HEAD, "| --- | --- | --- | --- | --- | --- | --- |"]
    for place, (package, row) in enumerate(rows.items()):
        folder = f"{row.files} (`{row.folder}/`)"
        cells: Sequence[object] = (row.functions, f"{row.median:g}", row.p90, row.longest, folder)
        lines.append(f"| {package} | {' | '.join(map(str, cells))} | {'' if place else readme} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table({package: measures(package) for package in PACKAGES}, readme_lines()))
