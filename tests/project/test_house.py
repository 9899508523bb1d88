"""The house rules that no other test sees: packaging, pins and sizes."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from app.settings.model import Settings
from tests.project.measure_house import (
    PACKAGES,
    files_per_folder,
    functions,
    measures,
    readme_lines,
    sources,
    statements,
)

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 2**20
FUNCTION_LIMIT, P90_LIMIT, MEDIAN_LIMIT = 60, 25, 8  # lines
FILE_LIMIT, README_LIMIT = 300, 150  # lines
FOLDER_LIMIT, METHODS = 20, "merging/methods"  # Python files; as many methods as there are
HOUSE = ("LICENSE", ".dockerignore", ".gitignore", ".ci/run")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- the Space and its container ------------------------------------------------------------------


@pytest.fixture(scope="module")
def space() -> dict[str, object]:
    """The front matter of the README, as a Hugging Face Space reads it."""
    match = re.match(r"---\n(.*?)\n---\n", text_of("README.md"), re.DOTALL)
    assert match, "README.md does not open with front matter"
    return yaml.safe_load(match[1])


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, in order: (word, the rest on one line)."""
    lines = [line for line in text_of("Dockerfile").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest) for word, _, rest in (s.partition(" ") for s in joined.splitlines()) if word
    ]


def of(steps: list[tuple[str, str]], word: str) -> list[str]:
    return [rest.strip() for name, rest in steps if name == word]


def variables(steps: list[tuple[str, str]]) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(of(steps, "ENV"))))


def test_front_matter_is_what_a_space_accepts(space: dict[str, object]) -> None:
    assert space["sdk"] == "docker"
    assert space["license"] == "apache-2.0"
    assert len(str(space["title"])) > 0
    assert len(str(space["short_description"])) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {space["colorFrom"], space["colorTo"]} <= colours
    # a log-in that may make repositories and write to these, and to no other
    assert space["hf_oauth"] is True
    assert space["hf_oauth_scopes"] == ["contribute-repos"]


def test_one_port(space: dict[str, object], steps: list[tuple[str, str]]) -> None:
    assert space["app_port"] == Settings.port
    assert of(steps, "EXPOSE") == [str(Settings.port)]
    assert variables(steps)["GRADIO_SERVER_PORT"] == str(Settings.port)
    assert "GRADIO_SERVER_PORT" in of(steps, "HEALTHCHECK")[0]


def test_container_runs_as_uid_1000(steps: list[tuple[str, str]]) -> None:
    words = [word for word, _ in steps]
    assert of(steps, "USER") == ["user"], "one USER, so that nothing goes back to root"
    assert any(re.search(r"useradd .*--uid 1000 user$", rest) for rest in of(steps, "RUN"))
    assert words[-1] == "CMD"
    assert words.count("CMD") == 1
    assert words.index("USER") < words.index("CMD")
    owned = [rest.startswith("--chown=1000:1000 ") for rest in of(steps, "COPY")]
    assert owned == [True, True]


def test_container_environment(steps: list[tuple[str, str]]) -> None:
    values = variables(steps)
    assert values["HOME"] == "/home/user"
    assert values["HF_HOME"].startswith("/home/user/")
    assert values["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert values["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert not [rest for rest in of(steps, "RUN") if "gradio" in rest and "import" in rest]


def test_requirements_are_installed_before_the_code_is_copied(steps: list[tuple[str, str]]) -> None:
    install = next(i for i, (word, rest) in enumerate(steps) if word == "RUN" and "pip" in rest)
    code = next(
        i for i, (word, rest) in enumerate(steps) if word == "COPY" and rest.endswith(". .")
    )
    assert install < code


# --- pins -----------------------------------------------------------------------------------------

EXTRAS = ("requirements-ray.txt", "requirements-zerogpu.txt")  # for one executor each
REQUIREMENTS = ("requirements.txt", "tests/requirements.txt", *EXTRAS)


def pins(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in text_of(name).splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_pin_is_exact(name: str) -> None:
    exact = r"[\w.-]+(\[[a-z,]+\])?==\d[\w.!+]*(; python_version (<|>=) \"3\.\d+\")?"
    assert not [pin for pin in pins(name) if not re.fullmatch(exact, pin)]


def test_every_import_is_pinned() -> None:
    """What merging/ and app/ import from outside is named in requirements.txt or an extra."""
    named = [pin for name in ("requirements.txt", *EXTRAS) for pin in pins(name)]
    pinned = {normal(re.split(r"==|\[", pin)[0]) for pin in named}
    installed = packages_distributions()
    missing = {
        top
        for path in sources("merging", "app")
        for top in top_names(path)
        if not {normal(name) for name in installed.get(top, [top])} & pinned
    }
    assert not missing


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def top_names(path: Path) -> set[str]:
    """Top-level packages, neither ours nor the standard library's, that a file imports."""
    lines = statements(path)
    names = {a.name for n in lines if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in lines if isinstance(n, ast.ImportFrom) if not n.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"merging", "app"}


# --- sizes ----------------------------------------------------------------------------------------


@cache
def committed() -> list[Path]:
    """Files that git holds or would take up; all but hidden folders where there is no git."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        inner = (path for path in ROOT.rglob("*") if path.is_file())
        return [p for p in inner if p.relative_to(ROOT).parts[0] not in (".git", ".venv")]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_is_large() -> None:
    assert not [str(path) for path in committed() if path.stat().st_size >= 10 * MEBIBYTE]


def test_assets_stay_small() -> None:
    sizes = [path.stat().st_size for path in committed() if ROOT / "assets" in path.parents]
    assert sum(sizes) < 45 * MEBIBYTE


def test_the_house_is_complete() -> None:
    assert "Apache License" in text_of("LICENSE")
    assert not [name for name in HOUSE if not (ROOT / name).is_file()]
    assert "python3 run.py test" in text_of(".ci/run")


ALL = ("merging", "app", "tests", "assets/build")


def test_files_and_functions_stay_short() -> None:
    paths = [*sources(*ALL), ROOT / "run.py"]
    lines = {str(path): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert not {path: n for path, n in lines.items() if n > FILE_LIMIT}
    assert not {where: n for where, n in functions(*paths).items() if n > FUNCTION_LIMIT}


def test_no_test_module_is_a_library() -> None:
    """What several tests share stands in a module beside them."""
    borrowed = re.compile(r"^(?:from|import) tests\.[\w.]*\btest_\w+", re.MULTILINE)
    assert not [path for path in sources("tests") if borrowed.search(path.read_text("utf-8"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_house_keeps_its_measures(package: str) -> None:
    found = measures(package)
    assert found.median <= MEDIAN_LIMIT
    assert found.p90 <= P90_LIMIT
    assert found.longest <= FUNCTION_LIMIT
    folders = files_per_folder(*sources(package))
    assert not {name: n for name, n in folders.items() if n > FOLDER_LIMIT and name != METHODS}


def test_the_readme_stays_short() -> None:
    assert readme_lines() <= README_LIMIT
