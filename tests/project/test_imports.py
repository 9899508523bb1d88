"""The one-way import rule: a file imports downwards only, and gradio and diffusers have one owner.

Read from the syntax trees, so that an import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("merging", "app")

# From the bottom up. A row imports from the rows above it here, never from those below. Modules of
# one string may import one another; strings side by side in a row may not. A package's name stands
# for all of its modules; the longest name that fits a module decides.
LAYERS = (
    ("merging",),
    (
        "merging.errors merging.runtime.progress merging.runtime.memory merging.runtime.phases"
        " merging.runtime.seeds"
        " merging.embedding merging.adapter merging.linalg.gram merging.linalg.row_statistics"
        " merging.report"
        " merging.io.atomic_write merging.runtime.threads merging.io.file_names"
        " merging.io.zip_archive merging.options"
        " merging.io.files",
    ),
    (
        "merging.linalg.delta merging.linalg.low_rank merging.linalg.row_set_weights"
        " merging.linalg.damped_system merging.linalg.closed_form"
        " merging.linalg.diagnostics merging.calibration.prompts merging.calibration.plan"
        " merging.cli.arguments merging.io.png"
        " merging.scoring.clip merging.scoring.references",
    ),
    ("merging.linalg.core_space",),
    ("merging.formats", "merging.methods"),
    (
        "merging.request merging.vector_deltas merging.calibration.target_layers merging.engine"
        " merging.export.recipe"
        " merging.analysis.summary merging.analysis.plots merging.block_weights merging.blocks"
        " merging.io.hub"
        " merging.analysis.conflicts merging.export.attribution merging.calibration.teachers",
        "merging.diffusion",
    ),
    ("merging.export.sidecar", "merging.analysis.rank_curve", "merging.export.model_card"),
    (
        "merging.evaluation",
        "merging.cli.convert",
        "merging.lora_file merging.cli.render merging.cli.conflicts merging.cli.merge_options"
        " merging.batch",
    ),
    ("merging.cli.inspect", "merging.cli.merge"),
    ("merging.__main__",),
    ("app",),
    (
        "app.settings.model app.settings.load app.storage.sessions app.schemas.card app.examples"
        " app.schemas.merge app.schemas.draw app.limits"
        " app.jobs.merge app.jobs.draw app.jobs.inspect app.schemas.export app.jobs.export"
        " app.hub_upload app.shell_commands"
        " app.jobs.queue app.a1111_prompt app.jobs.conflicts app.storage.library"
        " app.schemas.batch app.storage.sqlite app.storage.history_json"
        " app.storage.history app.compare_merges app.jobs.batch app.jobs.engine app.settings.save",
    ),
    ("app.service",),
    ("app.ui",),
    ("app.__main__",),
)

# The only importers of a package, of ours or of others, wherever the rows would allow more.
OWNERS = {
    "gradio": ("app.ui",),
    "diffusers": ("merging.diffusion",),
    "merging.evaluation": ("merging.evaluation", "merging.__main__"),
}

# What the rows would allow and we do not: importer -> the packages that it leaves alone.
BARRED = {
    "merging.diffusion": ("merging.methods",),
    "app.ui": ("merging.diffusion", "merging.formats"),
}


def within(module: str, package: str) -> bool:
    """Whether a module is the package or lies in it."""
    return module == package or module.startswith(package + ".")


def place(module: str) -> tuple[int, int]:
    """Row and string of LAYERS that a module belongs to, by the longest name that fits."""
    places = {
        name: (row, column)
        for row, cells in enumerate(LAYERS)
        for column, cell in enumerate(cells)
        for name in cell.split()
        if module == name or (within(module, name) and name not in OURS)
    }
    if not places:
        raise LookupError(f"{module} is in no layer: give it a place in this file")
    return places[max(places, key=len)]


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
    (row, column), (other_row, other_column) = place(importer), place(imported)
    if other_row > row:
        return f"{importer} imports {imported}, which lies above it"
    if other_row == row and other_column != column:
        return f"{importer} imports {imported}, which stands beside it"
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


def imports_of(module: str, path: Path) -> set[str]:
    """All that a file imports, without itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    is_package = path.name == "__init__.py"
    found = {name for node in ast.walk(tree) for name in targets(node, module, is_package)}
    return found - {module}


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downwards(module: str) -> None:
    place(module)
    breaches = [breach(module, name) for name in sorted(imports_of(module, FILES[module]))]
    assert not [text for text in breaches if text]


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
        ("merging", "merging.engine"),
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
        ("merging.__main__", "merging.evaluation.contest"),
        ("app.service", "merging.diffusion.base"),
        ("app.ui.page", "gradio.themes"),
        ("app.ui.page", "app.service"),
        ("app.__main__", "app.ui"),
    ],
)
def test_allows(importer: str, imported: str) -> None:
    assert not breach(importer, imported)


def test_a_module_without_a_layer_is_refused() -> None:
    for stranger in ("merging.helpers", "app.helpers"):
        with pytest.raises(LookupError, match="in no layer"):
            place(stranger)
