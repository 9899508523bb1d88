"""The one-way import rule: a room imports the rooms below it only, and big packages have one owner.

A room is a folder of merging/ or app/, or a module that lies in one of the two themselves. Read
from the syntax trees, so that an import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.project.measure_house import statements

ROOT = Path(__file__).resolve().parents[2]
OURS = ("merging", "app")

# From the bottom up: a room imports rooms of the rows above its own here, and no others. Rooms of
# one row stand beside each other and do not import one another.
ROWS = (
    "merging.errors merging.version",
    "merging.option_field",
    "merging.io merging.runtime merging.text merging.embedding merging.options",
    "merging.base_models merging.adapter merging.report merging.presets merging.workers",
    "merging.linalg merging.formats",
    "merging.methods merging.block_weights merging.packs",
    "merging.blocks",
    "merging.request",
    "merging.calibration merging.source_deltas merging.vector_deltas",
    "merging.engine merging.diffusion",
    "merging.lora_file merging.bundled",
    "merging.analysis merging.export merging.scoring",
    "merging.python_api",
    "merging",
    "merging.batch merging.retrieval merging.tuning",
    "merging.evaluation merging.benchmarks",
    "merging.cli",
    "merging.__main__",
    "app",
    "app.log app.settings app.schemas app.examples app.hub_upload app.prompts",
    "app.storage app.limits app.a1111_prompt app.shell_commands app.sidecars",
    "app.jobs app.compare_merges",
    "app.service",
    "app.ui",
    "app.__main__ app.space",
)
FLOORS = {room: floor for floor, row in enumerate(ROWS) for room in row.split()}

# The rows inside a room that has an order of its own.
INSIDE = {
    "app.ui": (
        "app.ui",
        "app.ui.common app.ui.theme app.ui.security app.ui.html",
        "app.ui.sections",
        "app.ui.handlers app.ui.api",
        "app.ui.page",
        "app.ui.launch",
    )
}

# The only importers of a package, of ours or of others, wherever the rows would allow more.
OWNERS = {
    "gradio": ("app.ui",),
    "diffusers": ("merging.diffusion",),
    "ray": ("merging.workers.cluster", "app.jobs.slots.cluster"),
    "spaces": ("app.jobs.slots.zerogpu",),
    "merging.evaluation": ("merging.evaluation", "merging.cli"),
    "merging.benchmarks": ("merging.benchmarks", "merging.cli"),
    "merging.cli": ("merging.cli", "merging.__main__", "app.settings.load"),  # it has flags, too
}

# What the rows would allow and we do not: importer -> the packages that it leaves alone.
BARRED = {
    "merging.methods": ("merging.formats",),
    "merging.diffusion": ("merging.methods",),
    "app.ui": ("merging.diffusion", "merging.formats"),
}


def within(module: str, package: str) -> bool:
    """Whether a module is the package or lies in it."""
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str:
    """merging.formats for merging.formats.families.lora; LookupError for a room without a row."""
    room = ".".join(module.split(".")[:2])
    if room not in FLOORS:
        raise LookupError(f"{room} is in no row: give it a place in this file")
    return room


def inner_floor(module: str, rows: tuple[str, ...]) -> int:
    """The row inside a room, by the longest name that fits."""
    fitting = {
        name: floor
        for floor, row in enumerate(rows)
        for name in row.split()
        if within(module, name)
    }
    return fitting[max(fitting, key=len)]


def breach(importer: str, imported: str) -> str:
    """Why this import is not allowed, or "" if it is."""
    for package, owners in OWNERS.items():
        if within(imported, package) and not any(within(importer, owner) for owner in owners):
            return f"{importer} imports {imported}, which only {' and '.join(owners)} may"
    for package, strangers in BARRED.items():
        if within(importer, package) and any(within(imported, name) for name in strangers):
            return f"{importer} imports {imported}, which {package} leaves to others"
    if not any(within(imported, package) for package in OURS):
        return ""
    room, other = room_of(importer), room_of(imported)
    if room == other:
        return breach_inside(importer, imported, INSIDE.get(room))
    if FLOORS[other] >= FLOORS[room]:
        return f"{importer} imports {imported}, whose room is not below"
    return ""


def breach_inside(importer: str, imported: str, rows: tuple[str, ...] | None) -> str:
    """The same inside a room, where that has rows; modules of one row may import one another."""
    if rows and inner_floor(imported, rows) > inner_floor(importer, rows):
        return f"{importer} imports {imported}, which lies above it"
    return ""


def module_of(path: Path) -> str:
    """Dotted name of a file, the package's own for an ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))
}


def targets(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """Modules that one statement imports; ``from a import b`` is a.b where that is a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    source = node.module or ""
    if node.level:
        parts = module.split(".")
        kept = parts[: len(parts) - node.level + is_package]
        source = ".".join([*kept, *filter(None, [node.module])])
    inner = [f"{source}.{alias.name}" for alias in node.names]
    return [name if name in FILES else source for name in inner]


@cache
def imports_of(module: str, path: Path) -> set[str]:
    """All that a file imports, without itself."""
    is_package = path.name == "__init__.py"
    found = {name for node in statements(path) for name in targets(node, module, is_package)}
    return found - {module}


@pytest.mark.parametrize("package", OURS)
def test_imports_go_downwards(package: str) -> None:
    breaches = [
        breach(module, name)
        for module, path in FILES.items()
        if within(module, package)
        for name in sorted(imports_of(module, path))
    ]
    assert not [text for text in breaches if text]


def test_every_module_has_a_room() -> None:
    assert {room_of(module) for module in FILES} == FLOORS.keys()


def test_no_cycle() -> None:
    graph = {name: imports_of(name, path) & FILES.keys() for name, path in FILES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, with the cycle


def test_run_needs_the_standard_library_alone() -> None:
    names = {name.split(".")[0] for name in imports_of("run", ROOT / "run.py")}
    assert names <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("merging.engine", "app.service"),
        ("merging.linalg.closed_form", "merging.methods.iteris"),
        ("merging.formats.key_names.kohya", "merging.methods"),
        ("merging.methods.iteris", "merging.formats"),
        ("merging.engine", "merging.diffusion.base"),
        ("merging.diffusion.lockstep", "merging.engine"),
        ("merging.diffusion.lockstep", "merging.methods.iteris"),
        ("merging.engine", "diffusers.loaders"),
        ("merging.engine", "gradio"),
        ("app.service", "gradio"),
        ("app.service", "app.ui.page"),
        ("app.service", "merging.evaluation.scorer"),
        ("app.ui.page", "merging.diffusion.render"),
        ("merging.engine", "merging"),
    ],
)
def test_refuses(importer: str, imported: str) -> None:
    assert breach(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("merging.engine", "merging.methods"),
        ("merging.diffusion.base", "diffusers"),
        ("merging.diffusion.layers", "merging.formats.layer_tables"),
        ("merging.cli.evaluate", "merging.evaluation.contest"),
        ("app.service", "merging.diffusion.base"),
        ("app.ui.page", "gradio.themes"),
        ("app.ui.page", "app.service"),
        ("app.__main__", "app.ui"),
    ],
)
def test_allows(importer: str, imported: str) -> None:
    assert not breach(importer, imported)


def test_a_module_without_a_room_is_refused() -> None:
    for stranger in ("merging.helpers", "app.helpers"):
        with pytest.raises(LookupError, match="in no row"):
            room_of(stranger)


def test_the_docs_list_the_same_rows() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("<!-- rooms -->\n")[1].split("\n<!-- /rooms -->")[0].splitlines()[2:]
    listed = [re.findall(r"`([\w.]+)`", line.split("|")[1]) for line in table]
    assert listed == [row.split() for row in ROWS]
