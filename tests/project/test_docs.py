"""The documentation: links, generated parts, and the files, tests and options that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from merging.options import merge_options
from merging.presets import PRESETS, preset_options
from tests.project.measure_house import HEAD, PACKAGES, ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCS = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "assets" / "README.md",
    ROOT / "tests" / "golden" / "README.md",
    ROOT / "app" / "ui" / "sections" / "help.md",
]
SECTIONS = {  # page → the tables in it that commands have printed
    "methods.md": ("methods", "compositions"),
    "benchmarks.md": (
        "base",
        "contest",
        "contest-methods",
        "contest-test",
        "speed",
        "sd15",
        "growth",
        "weights",
        "pictures",
        "waiting",
        "counts",
        "writing",
        "looking",
    ),
    "ablation.md": ("taught", "test"),
    "architecture.md": ("rooms", "house"),
}
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\d+\. \[[^]]+\]\(\.\./([^)]+)\)((?:,? `[\w.]+`)*)", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", text_of(path))


def section(page: str, name: str) -> str:
    """Text of a page between ``<!-- name -->`` and ``<!-- /name -->``."""
    text = text_of(ROOT / "docs" / page)
    match = re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert match, f"docs/{page} has no section {name}"
    return match[1].strip()


def headings(path: Path) -> list[str]:
    """Headings of the second level."""
    return re.findall(r"^## (.+)$", prose_of(path), re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Anchors of all headings, as GitHub makes them."""
    return {anchor(title) for title in re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE)}


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(prose_of(path)):
        file, _, place = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link}: no such file"
        if place:
            assert place in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_page_begins_with_its_contents(path: Path) -> None:
    contents = re.search(r"^# .+\n\nContents: ((?:.+\n)+)", text_of(path))
    assert contents, "the page has no contents below its title"
    assert LINK.findall(contents[1]) == [f"#{anchor(title)}" for title in headings(path)]


def test_the_contents_page_lists_every_page() -> None:
    linked = set(LINK.findall(prose_of(ROOT / "docs" / "README.md")))
    assert {path.name for path in PAGES} - {"README.md"} <= linked


# --- what the pages name --------------------------------------------------------------------------


def test_every_test_that_is_named_exists() -> None:
    named = [
        pair for path in DOCS for pair in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(path))
    ]
    assert len(named) > 10
    assert not [name for file, name in named if f"def {name}(" not in text_of(ROOT / file)]


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_every_file_that_is_named_exists(path: Path) -> None:
    named = re.findall(r"`((?:merging|app|tests|assets|docs)/[\w/.-]+)`", prose_of(path))
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


def commands() -> dict[str, set[str]]:
    """Options of each command in the list of docs/cli.md."""
    block = text_of(ROOT / "docs" / "cli.md").split("## All commands")[1].split("```")[1]
    parts = [part.split() for part in block.split("python -m merging ")[1:]]
    return {words[0]: set(re.findall(r"--[a-z-]+", " ".join(words))) for words in parts}


@pytest.mark.parametrize("command", commands())
def test_the_list_of_commands_names_real_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from merging.__main__ import main

    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert commands()[command] <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


# --- generated parts ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "flags"), [("methods", []), ("compositions", ["--compose"])])
def test_the_tables_of_methods_are_what_the_command_prints(name: str, flags: list[str]) -> None:
    command = [sys.executable, "-m", "merging", "methods", *flags]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    assert section("methods.md", name) == done.stdout.strip()


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, names in SECTIONS.items() for name in names]
)
def test_no_table_is_empty(page: str, name: str) -> None:
    assert "\n| " in section(page, name)


def test_the_readme_s_figures_are_those_of_the_benchmark() -> None:
    """Each row's first three figures stand in a row of the test split's first table."""
    table = section("benchmarks.md", "contest-test").split("**two of a kind**")[0]
    known = [
        re.match(r"\| .+? \| ([\d.]+) \[.+?\| ([\d.]+) \[.+?\| ([\d.]+) \[", line)
        for line in table.splitlines()
    ]
    figures = [match.groups() for match in known if match]
    short = text_of(ROOT / "README.md").split("## Figures")[1].split("\n## ")[0]
    rows = re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", short, re.MULTILINE)
    assert len(rows) > 3
    assert set(rows) <= set(figures)


# --- the architecture -----------------------------------------------------------------------------


def test_every_step_of_a_walk_is_in_its_file() -> None:
    steps = STEP.findall(text_of(ROOT / "docs" / "architecture.md"))
    assert len(steps) > 50
    for file, names in steps:
        code = text_of(ROOT / file)
        for name in re.findall(r"[\w.]+", names):
            defined = all(re.search(rf"(def|class) {part}\b", code) for part in name.split("."))
            assert defined, f"{file} has no {name}"


def test_the_measured_table_is_of_the_command() -> None:
    """Its figures change with every commit; its limits are those of test_house.py."""
    head, _, *rows = section("architecture.md", "house").splitlines()
    assert head == HEAD
    assert [row.split("|")[1].strip() for row in rows] == list(PACKAGES)


def test_every_option_and_preset_is_explained() -> None:
    page = text_of(ROOT / "docs" / "methods.md")
    explained = set(re.findall(r"`(--[a-z-]+)`", page)) | {"--method", "--seed"}
    flags = {option.flag for option in merge_options().values()}
    assert flags <= explained
    assert flags <= commands()["merge"]
    rows = re.findall(
        r"^\| `(\w+)` \| ([\w ]+) \|(.*)\|$", page.split("## Presets")[1], re.MULTILINE
    )
    assert {name: title for name, title, _ in rows} == {
        name: preset.title for name, preset in PRESETS.items()
    }
    for name, _, cells in rows:
        targets, samples, *others, ridge = (cell.strip() for cell in cells.split("|"))
        shown = dict(zip(("teacher", "mode", "fallback"), others, strict=True))
        numbers = {"samples": int(samples), "ridge": float(ridge)}
        assert {"targets": targets, **shown, **numbers} == preset_options(name)
