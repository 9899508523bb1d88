"""The golden set: what an older version wrote and answered, today's writes and answers too.

Bytes are compared on the kind of machine that the set was made on (processor, threads, versions),
where they have to be the same. Elsewhere the norms of the tensors and the colours of the pictures
are, within what rounding does.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client, handle_file

from app.schemas.merge import SelectedFile
from app.service import Studio
from app.settings.model import Settings
from merging.__main__ import main
from merging.benchmarks.machine import machine
from merging.formats import overview
from merging.io.files import file_sha256, read_recipe
from tests.golden.cases import (
    ANSWERS,
    CALLS,
    CAT,
    COMMANDS,
    HERE,
    PIZZA,
    files_of,
    pixels,
    read_expected,
    shape_of,
    sketch,
)

EXPECTED = read_expected()
HOME = HERE / "home"


@pytest.fixture(scope="module", autouse=True)
def same_machine() -> Iterator[bool]:
    """Whether this is the kind of machine that the set was made on, with its number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(int(re.findall(r"(\d+) threads", EXPECTED["machine"])[0]))
    yield machine() == EXPECTED["machine"]
    torch.set_num_threads(threads)


def run(arguments: list[str], out: Path) -> Any:
    """One command with --json: its answer."""
    written = [word.replace("{out}", str(out)) for word in arguments]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        assert main([*written, "--json"]) == 0, text.getvalue()
    return json.loads(text.getvalue())


def check_file(path: Path, expected: dict[str, Any], same_machine: bool) -> None:
    """The same name and bytes; on another kind of machine, nearly the same values."""
    assert path.name == expected["name"]
    if same_machine:
        assert file_sha256(path) == expected["sha256"]
    elif path.suffix == ".png":
        assert pixels(path) == pytest.approx(expected["sketch"], abs=24)
    elif path.suffix == ".safetensors":
        assert sketch(path) == pytest.approx(expected["sketch"], rel=0.02, abs=1e-4)


@pytest.mark.slow(30)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_the_same_files(name: str, tmp_path: Path, same_machine: bool) -> None:
    file, arguments = COMMANDS[name]
    expected = EXPECTED["commands"][name]
    answer = shape_of(run(arguments, tmp_path / file))
    for path, wanted in zip(files_of(tmp_path / file), expected["files"], strict=True):
        check_file(path, wanted, same_machine)
    assert answer.keys() >= expected["answer"].keys()
    if same_machine:
        assert {key: answer[key] for key in expected["answer"]} == expected["answer"]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_command_answers_the_same(name: str, tmp_path: Path, same_machine: bool) -> None:
    """An answer may have gained keys since."""
    answer, expected = shape_of(run(ANSWERS[name], tmp_path)), EXPECTED["answers"][name]
    assert answer.keys() >= expected.keys()
    if same_machine:
        assert {key: answer[key] for key in expected} == expected


@pytest.mark.parametrize("name", CALLS)
def test_an_endpoint_gives_the_same_file(
    name: str, url: str, tmp_path: Path, same_machine: bool
) -> None:
    client = Client(url, verbose=False, download_files=tmp_path, analytics_enabled=False)
    files = [handle_file(CAT), handle_file(PIZZA)]
    file, _ = client.predict(files=files, **CALLS[name], api_name=name)
    client.close()
    expected = EXPECTED["calls"][name]
    check_file(Path(file), expected | {"name": Path(file).name}, same_machine)


@pytest.fixture
def studio_of_before(tmp_path: Path) -> Studio:
    """An app of today whose home an older version has filled."""
    home = shutil.copytree(HOME, tmp_path / "home")
    for file in (CAT, PIZZA):
        shutil.copy(file, home / "library" / f"{file_sha256(Path(file))}.safetensors")
    return Studio(Settings(device="cpu", work=tmp_path / "work", home=home))


def test_a_library_of_before_is_searched(studio_of_before: Studio) -> None:
    library = studio_of_before.library(studio_of_before.open_session())
    (entry,) = library.search("a sks cat on a sofa")
    assert (entry.name, entry.trigger, entry.base) == ("sks-cat", "sks cat", "mini")
    assert len(library.search()) == 2


def test_a_history_of_before_is_opened(studio_of_before: Studio) -> None:
    session = studio_of_before.open_session()
    (entry,) = studio_of_before.history(session).entries(0, 10)
    assert entry.pinned
    assert entry.loras == (("sks-cat", 0.9), ("vxz-pizza", 1.0))
    kept = studio_of_before.recall(session, entry.id)
    assert kept.scene
    assert kept.scene.prompt == "a sks cat\na vxz pizza"
    assert len(kept.pictures) == 10
    cat, pizza = kept.here
    assert cat == replace(
        SelectedFile(cat.path, "sks-cat", 0.9, "sks cat"), blocks="MIDD", prompts=("a sks cat",)
    )
    assert pizza == SelectedFile(pizza.path, "vxz-pizza", 1.0, "vxz pizza")
    recipe = read_recipe(overview(kept.merged.kohya).metadata)
    assert recipe == kept.merged.recipe
