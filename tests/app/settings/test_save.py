"""What the page writes into settings.toml is what the next start reads."""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr
import pytest

from app.settings.load import VARIABLES, read, with_file, with_page
from app.settings.model import SETTINGS, Settings
from app.settings.save import at_next_start, save
from app.settings.setting import Value
from app.ui.sections.settings import settings_section
from merging.errors import MergeError

WRITTEN = """# my machine
device = "cpu"  # the card is for others
max_files = 3
  base = 'sd15'
"""


def at_home(tmp_path: Path, written: str = "", **above: str) -> Settings:
    """Settings of a person's own machine, with a file and what goes before it."""
    file = tmp_path / "settings.toml"
    if written:
        file.write_text(written, encoding="utf-8")
    environ = with_file(above, file)
    return with_page(Settings.from_environment(tmp_path, environ), above, file)


def test_without_a_file_the_defaults_of_the_start_are_shown(tmp_path: Path) -> None:
    """Each default, written out, makes the settings that saying nothing makes."""
    found = at_next_start(at_home(tmp_path))
    assert found == {name: each.default for name, each in SETTINGS.items()}
    environ = {VARIABLES[name]: str(value) for name, value in found.items()}
    assert Settings.from_environment(tmp_path, environ) == Settings.from_environment(tmp_path, {})
    for each in SETTINGS.values():
        listed = each.offered or each.choices
        assert not listed or each.default in listed


def test_what_is_saved_holds_at_the_next_start_and_all_else_stays(tmp_path: Path) -> None:
    settings = at_home(tmp_path, WRITTEN)
    wanted = {**at_next_start(settings), "device": "cuda:1", "max_minutes": 2.5, "work": 'a "b" \\'}
    assert save(settings, wanted) == ("device", "work", "max_minutes")
    text = (tmp_path / "settings.toml").read_text("utf-8")
    assert text == WRITTEN.replace('"cpu"', '"cuda:1"') + (
        'work = "a \\"b\\" \\\\"\nmax_minutes = 2.5\n'
    )
    later = at_home(tmp_path)
    assert at_next_start(later) == wanted
    assert (later.device, later.max_minutes, later.max_files) == ("cuda:1", 2.5, 3)
    assert save(later, wanted) == ()


def test_an_empty_field_is_the_default(tmp_path: Path) -> None:
    settings = at_home(tmp_path, WRITTEN + 'home = "off"')
    assert save(settings, {"home": " ", "max_files": None}) == ("home", "max_files")
    expected = WRITTEN.replace("max_files = 3", "max_files = 6")
    assert (tmp_path / "settings.toml").read_text("utf-8") == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_files", 17),
        ("port", 80.5),
        ("keep_hours", -1),
        ("device", "gpu"),
        ("precision", "fp8"),
        ("mcp", "maybe"),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_written(
    tmp_path: Path, name: str, value: Value
) -> None:
    settings = at_home(tmp_path, WRITTEN)
    with pytest.raises(MergeError, match=rf"^{name} must be .*, not '?{re.escape(str(value))}"):
        save(settings, {"base": "mini", name: value})
    assert (tmp_path / "settings.toml").read_text("utf-8") == WRITTEN


def test_what_goes_before_the_file_is_shown_and_not_written(tmp_path: Path) -> None:
    above = {"ITERIS_DEVICE": "mps", "GRADIO_SERVER_PORT": "7999", "HF_TOKEN": "hf_secret"}
    settings = at_home(tmp_path, WRITTEN, **above)
    assert settings.above == {"device": "mps", "port": "7999"}
    found = at_next_start(settings)
    assert (found["device"], found["port"]) == ("mps", 7999)
    assert save(settings, {"device": "cuda", "max_mb": 9}) == ("max_mb",)
    assert read(tmp_path / "settings.toml")["device"] == "cpu"


@pytest.mark.parametrize("public", [{"SPACE_ID": "me/it"}, {"GRADIO_SERVER_NAME": "0.0.0.0"}])
def test_where_others_can_reach_the_app_there_is_nothing_to_write(
    tmp_path: Path, public: dict[str, str]
) -> None:
    settings = at_home(tmp_path, **public)
    assert (settings.file, settings.above) == (None, {})
    with pytest.raises(MergeError, match="Only the operator can"):
        save(settings, {"port": 1})
    with gr.Blocks() as page:
        settings_section(settings)
    assert (page.blocks, page.fns) == ({}, {})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("port = 1\nfoot = 2\n", "“foot” is no setting"),
        ("port = 99999\n", "port must be a whole number from 1"),
        ("port = \n", "cannot be read"),
    ],
)
def test_a_file_that_the_start_would_refuse_is_left_alone(
    tmp_path: Path, written: str, words: str
) -> None:
    settings = at_home(tmp_path)
    (tmp_path / "settings.toml").write_text(written, encoding="utf-8")
    with pytest.raises(MergeError, match=words):
        save(settings, {"port": 5})
    assert (tmp_path / "settings.toml").read_text("utf-8") == written
