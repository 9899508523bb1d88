"""Make the golden answers anew: ``python -m tests.golden.make``.

The set in this folder was made at the last version before the code was moved into rooms (the commit
that adds this file), and what holds today has to give the same. Make it anew only where a change of
the bytes is meant, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from merging.__main__ import main
from merging.benchmarks.machine import machine
from merging.io.files import file_sha256
from tests.golden.cases import (
    ANSWERS,
    CALLS,
    CAT,
    COMMANDS,
    HERE,
    PAGE,
    PIZZA,
    SMALL,
    files_of,
    pixels,
    shape_of,
    sketch,
)


def run(arguments: list[str], out: Path) -> Any:
    """One command with --json: its answer."""
    written = [word.replace("{out}", str(out)) for word in arguments]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        assert main([*written, "--json"]) == 0, text.getvalue()
    return json.loads(text.getvalue())


def described(path: Path) -> dict[str, Any]:
    """A file's bytes by their hash, and what stands for them on another processor."""
    rough = pixels(path) if path.suffix == ".png" else sketch(path)
    return {"name": path.name, "sha256": file_sha256(path), "sketch": rough}


def commands(folder: Path) -> dict[str, Any]:
    """What every command writes and answers."""
    made = {}
    for name, (file, arguments) in COMMANDS.items():
        answer = run(arguments, folder / file)
        files = [described(path) for path in files_of(folder / file)]
        made[name] = {"files": files, "answer": shape_of(answer)}
    return made


def calls(folder: Path) -> dict[str, Any]:
    """What the two endpoints that make files give."""
    from app.ui.launch import launch
    from app.ui.page import build

    settings = Settings(port=17860, device="cpu", work=folder / "work")
    page = build(Studio(settings))
    launch(page, settings, prevent_thread_lock=True)
    client = Client("http://127.0.0.1:17860", verbose=False, download_files=folder / "got")
    files = [handle_file(CAT), handle_file(PIZZA)]
    made = {}
    for name, arguments in CALLS.items():
        file, _ = client.predict(files=files, **arguments, api_name=name)
        made[name] = described(Path(file))
    client.close()
    page.close()
    return made


def home(folder: Path) -> None:
    """A library of two LoRAs and a history of one merge with its pictures."""
    studio = Studio(Settings(device="cpu", work=folder / "visit", home=HERE / "home"))
    session = studio.open_session()
    cards: list[Card] = []
    for file in (CAT, PIZZA):
        cards.append(studio.add(session, Path(file), cards))
        studio.keep(session, cards[-1])
    cat, pizza = map(SelectedFile.of, cards)
    picks = (replace(cat, strength=0.9, blocks="MIDD", prompts=("a sks cat",)), pizza)
    order = MergeOrder(picks, method="tsv", rank="2")
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    scene = DrawOrder(
        *(picks, "a sks cat\na vxz pizza"), merged=merged.kohya, method=merged.method, steps=2
    )
    pictures = tuple(item for item in studio.draw(session, scene) if isinstance(item, Picture))
    entry, said = studio.remember(session, merged, scene, pictures)
    assert entry and not said
    studio.history(session).pin(entry, True)
    studio.close()


def make(*, everything: bool) -> None:
    """What this version answers, and its merge; with `everything`, a library and a history too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = ["merge", CAT, PIZZA, *PAGE, *SMALL, "--method", "iteris", "--rank", "4"]
        run([*old, "--out", "{out}"], HERE / "merged.safetensors")
        expected = {
            "machine": machine(),
            "commands": commands(folder),
            "answers": {key: shape_of(run(words, folder)) for key, words in ANSWERS.items()},
            "calls": calls(folder),
        }
        if everything:
            shutil.rmtree(HERE / "home", ignore_errors=True)
            home(folder)
    for copy in (HERE / "home" / "library").glob("*.safetensors"):
        copy.unlink()  # the files of `loras`, which the test puts back
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n", "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--everything", action="store_true", help="the library and the history too")
    make(everything=parser.parse_args().everything)
