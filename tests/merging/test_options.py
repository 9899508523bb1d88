"""A merge option is declared once, and every surface has it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, field
from typing import Any, get_args, get_type_hints

import gradio as gr
import pytest

from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.shell_commands import merge_command
from app.ui.api.merge import merge_arguments, merge_endpoint
from app.ui.sections.merge_options import option_widgets
from merging import options as options_module
from merging.adapter import Adapter
from merging.cli.main import main
from merging.errors import MergeError
from merging.export.recipe import recipe, replay
from merging.option_field import option
from merging.options import MergeOptions, merge_options, option_values
from merging.presets import PRESETS, preset_of, preset_options
from merging.request import MergeRequest, Source
from tests.conftest import ROOT


@pytest.fixture
def sharpness(monkeypatch: pytest.MonkeyPatch) -> str:
    """A new option, declared while the program runs."""
    declared: Field = field(
        default=0.5,
        metadata=option(0.5, "Sharpness", "How sharp.", "number", "solver", lowest=0).metadata,
    )
    declared.name, declared.type, declared.kw_only = "sharpness", "float", True
    kind = MergeOptions.__dataclass_fields__["ridge"]._field_type  # type: ignore[attr-defined]
    declared._field_type = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(MergeOptions.__dataclass_fields__, "sharpness", declared)
    monkeypatch.setattr(MergeOptions, "sharpness", 0.5, raising=False)
    return "sharpness"


def test_a_new_option_is_everywhere(
    sharpness: str,
    random_adapter: Callable[..., Adapter],
    studio_settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["merge", "--help"])
    assert "--sharpness N" in capsys.readouterr().out

    request = MergeRequest((Source(random_adapter(1, marks=("q_proj",))),), method="sum")
    assert recipe(request)["sharpness"] == 0.5

    with gr.Blocks():
        widgets = option_widgets()
        arguments = merge_arguments(studio_settings)
    assert widgets["sharpness"].label == "Sharpness"
    endpoint = merge_endpoint(Studio(studio_settings), arguments)
    assert inspect.signature(endpoint).parameters["sharpness"].default == 0.5
    assert "    sharpness: Sharpness. How sharp." in str(endpoint.__doc__)


@pytest.fixture
def studio_settings(tmp_path: Any) -> Settings:
    return Settings(work=tmp_path, device="cpu")


def test_choices_are_those_of_the_types() -> None:
    hints = get_type_hints(MergeOptions)
    choices = {name: each for name, each in merge_options().items() if each.kind == "choice"}
    assert len(choices) == 7
    for name, each in choices.items():
        assert set(each.choices) == set(get_args(hints[name]))
    assert all(each.default is not MISSING and each.help for each in merge_options().values())


def test_an_option_is_named_in_few_files() -> None:
    files = [
        path
        for room in ("merging", "app")
        for path in (ROOT / room).rglob("*.py")
        if "cross_ridge" in path.read_text("utf-8")
    ]
    assert len(files) <= 4, files


def test_options_need_nothing_heavy() -> None:
    program = "import sys, merging.options; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_presets() -> None:
    """The defaults are the best setting; each preset is known again by its options."""
    assert preset_options("best").items() <= option_values(MergeOptions()).items()
    for name in PRESETS:
        assert preset_of(option_values(MergeOptions(**preset_options(name)))) == name
    assert preset_of({"targets": "all"}) is None
    assert preset_options("paper") == {
        "targets": "attention",
        "samples": 50,
        "teacher": "single",
        "mode": "delta",
        "fallback": "mean",
        "ridge": 1e-4,
    }


def test_an_old_recipe_means_what_it_meant(random_adapter: Callable[..., Adapter]) -> None:
    """One from before there were teachers and modes is not merged by today's defaults."""
    adapter = random_adapter(1, marks=("q_proj",))
    saved = recipe(MergeRequest((Source(adapter),), samples=3))
    for option_name in ("teacher", "mode", "rows"):
        del saved[option_name]
    request = replay(saved, [adapter])
    assert (request.teacher, request.mode, request.samples) == ("single", "delta", 3)


def test_text_from_a_form_becomes_a_rank() -> None:
    assert MergeOptions(rank=" 8 ").rank == 8  # type: ignore[arg-type]
    assert MergeOptions(rank="Auto").rank == "auto"  # type: ignore[arg-type]
    for wrong in ("", "many", 0, -1, 2.5, None):
        with pytest.raises(MergeError, match="rank must be exact, auto, full or a number from 1"):
            MergeOptions(rank=wrong)  # type: ignore[arg-type]


def test_the_shown_command_has_what_is_not_usual(tmp_path: Any) -> None:
    pick = SelectedFile(tmp_path / "a.safetensors", "a")
    order = MergeOrder((pick, pick), rows=None, cross_ridge=0.5, **preset_options("paper"))
    command = merge_command(order, "out.safetensors")
    for words in ("--rows all", "--cross-ridge 0.5", "--teacher single", "--ridge 0.0001"):
        assert words in command
    assert "--samples" not in command
    assert options_module.MergeOptions.samples == 50
