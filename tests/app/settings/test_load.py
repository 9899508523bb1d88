"""The environment decides, and a wrong variable is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.settings.load import VARIABLES, flags, with_file
from app.settings.model import SETTINGS, Settings
from app.settings.setting import Setting
from app.settings.workplace import workplace
from merging.errors import MergeError
from tests.conftest import ROOT


def test_defaults_suit_a_person_at_home(tmp_path: Path) -> None:
    found = Settings.from_environment(tmp_path, {})
    assert (found.host, found.port, found.base, found.free_base) == (
        "127.0.0.1",
        7860,
        "mini",
        True,
    )


def test_variables_are_read(tmp_path: Path) -> None:
    found = Settings.from_environment(
        tmp_path,
        {
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": "7999",
            "ITERIS_BASE": "sd15",
            "ITERIS_MAX_FILES": "3",
        },
    )
    assert (found.port, found.base, found.max_files) == (7999, "sd15", 3)
    assert not found.free_base, "whoever can reach a public app must not name folders on it"


def test_a_space_is_public_whatever_its_address(tmp_path: Path) -> None:
    assert not Settings.from_environment(tmp_path, {"SPACE_ID": "me/it"}).free_base


def test_what_stays_has_a_folder_at_home_alone(tmp_path: Path) -> None:
    def home(**environ: str) -> Path | None:
        return Settings.from_environment(tmp_path, environ).home

    assert home() == Path.home() / ".iteris-studio"
    assert home(ITERIS_HOME=str(tmp_path)) == tmp_path
    assert home(ITERIS_HOME="Off") is None
    for public in ({"SPACE_ID": "me/it"}, {"GRADIO_SERVER_NAME": "0.0.0.0"}):
        assert home(ITERIS_HOME=str(tmp_path), **public) is None


@pytest.mark.parametrize("text", ["many", "0", "1e9", "nan"])
def test_a_wrong_number_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(MergeError, match="ITERIS_MAX_FILES"):
        Settings.from_environment(tmp_path, {"ITERIS_MAX_FILES": text})


def test_an_unnamed_workplace_is_removed_and_a_named_one_stays(tmp_path: Path) -> None:
    with workplace({}) as own:
        assert own.is_dir()
    assert not own.exists()
    with workplace({"ITERIS_WORK": str(tmp_path)}) as named:
        assert named == tmp_path
    assert tmp_path.is_dir()


def test_the_file_says_what_the_environment_does_not(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('base = "sd15"\nmax_files = 3\nkeep_hours = 0.5\n', encoding="utf-8")
    environ = with_file({"ITERIS_BASE": "mini"}, file)
    found = Settings.from_environment(tmp_path, environ)
    assert (found.base, found.max_files, found.keep_hours) == ("mini", 3, 0.5)
    assert with_file({"A": "b"}, tmp_path / "none.toml") == {"A": "b"}


@pytest.mark.parametrize("text", ["bass = 1", "base = [1]", "base = ", "[base]\nx = 1"])
def test_a_wrong_file_is_reported(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MergeError, match=r"settings\.toml"):
        with_file({}, file)


def test_flags_go_before_the_environment_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('precision = "bf16"\nmcp = "on"\nport = 1\n', encoding="utf-8")
    environ = {"GRADIO_SERVER_PORT": "2"} | flags(["--port", "3", "--max-files", "4"])
    found = Settings.from_environment(tmp_path, with_file(environ, file))
    assert (found.precision, found.mcp, found.port, found.max_files) == ("bf16", True, 3, 4)


@pytest.mark.parametrize("name", ["ITERIS_PRECISION", "ITERIS_MCP"])
def test_a_wrong_word_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(MergeError, match=f"{name} must be .* not 'maybe'"):
        Settings.from_environment(tmp_path, {name: "maybe"})


def test_visitors_log_in_only_on_a_space_that_has_it(tmp_path: Path) -> None:
    space = {"SPACE_ID": "me/it", "OAUTH_CLIENT_ID": "x"}
    assert Settings.from_environment(tmp_path, space).login
    for name in space:
        assert not Settings.from_environment(tmp_path, {name: "x"}).login


@pytest.mark.parametrize("each", SETTINGS.values(), ids=SETTINGS)
def test_a_declaration_is_all_that_a_setting_needs(each: Setting, tmp_path: Path) -> None:
    """Flag, environment variable, settings.toml and help know it by its declaration alone."""
    file = tmp_path / "settings.toml"
    file.write_text(f"{each.name} = {json.dumps(each.default)}\n", encoding="utf-8")
    text = str(each.default)
    assert with_file({}, file) == {each.variable: text} == flags([each.flag, text])
    assert each.written(text) == each.default


def test_the_docs_list_every_setting_and_no_other() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([A-Z_]+)` \|", page, re.M)
    assert dict(rows) == VARIABLES
    code = (ROOT / "app" / "settings" / "model.py").read_text("utf-8")
    assert set(re.findall(r"(?:ITERIS|GRADIO)_[A-Z_]+", code)) == set(VARIABLES.values())
