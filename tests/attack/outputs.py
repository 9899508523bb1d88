"""The same request, the same bytes: over threads and processes, and after another's stopped job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from merging import formats
from merging.diffusion.base import load_base
from merging.export.save import save
from merging.io.files import file_sha256
from merging.python_api import merge
from merging.request import MergeRequest, Source
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, ROOT

METHODS = ("sum", "tsv", "iteris")
METHODS_WITH_PASSES = {"iteris"}  # of these three
THREADS = (1, 2, 4)
CLOSE = 1e-3  # relative; an fp16 file's own rounding is 5e-4
QUICK = {"samples": 2, "targets": "cross-attention"}


def make(folder: Path) -> None:
    """Write the pair's merged file by every method, as METHOD.safetensors."""
    base = load_base("mini", "cpu")
    sources = tuple(Source(formats.read(path)) for path in PAIR)
    for name in METHODS:
        result = merge(MergeRequest(sources, method=name, **QUICK), base)
        save(result, folder / f"{name}.safetensors", base=base)


def threads(folder: Path) -> Outcome:
    """The same merges with 1, 2 and 4 threads, and once more in another process.

    The base model's passes add numbers up in an order that depends on the number of threads. So a
    method that takes activations may give other last bits with another number, and no more.
    """
    outcome = Outcome("bytes of sum, tsv and iteris over threads and processes")
    runs = [_made_with(folder, number, count) for number, count in enumerate((*THREADS, 1))]
    apart = 0.0
    for name in METHODS:
        files = [run / f"{name}.safetensors" for run in runs]
        digests = [file_sha256(path) for path in files]
        outcome.expect(digests[0] == digests[-1], f"{name}: two processes, other bytes")
        if name not in METHODS_WITH_PASSES:
            outcome.expect(len(set(digests)) == 1, f"{name}: other bytes over {THREADS} threads")
            continue
        far = max(difference(files[0], path) for path in files)
        outcome.expect(far < CLOSE, f"{name}: {far:.1e} apart over {THREADS} threads")
        apart = max(apart, far)
    outcome.figures = f"iteris over {', '.join(map(str, THREADS))} threads {apart:.0e} apart"
    return outcome


def difference(one: Path, other: Path) -> float:
    """The largest ‖Δ − Δ'‖ / ‖Δ‖ of all layers."""
    first, second = (formats.read(path).layers for path in (one, other))
    return max(
        float((layer.delta() - second[name].delta()).norm() / layer.delta().norm())
        for name, layer in first.items()
    )


def _made_with(folder: Path, number: int, count: int) -> Path:
    place = folder / str(number)
    place.mkdir()
    program = f"import pathlib; from tests.attack import outputs; outputs.make(pathlib.{place!r})"
    environ = {**os.environ, "OMP_NUM_THREADS": str(count), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, check=True)
    return place


def after_a_stop(folder: Path) -> Outcome:
    """A picture before and after another visitor's merge that was stopped in its middle."""
    outcome = Outcome("a picture after another visitor’s stopped merge")
    studio = Studio(Settings(device="cpu", work=folder / "work", home=None))
    before = picture(studio)
    session, cards = studio.open_session(), list[Card]()
    for path in PAIR:
        cards.append(studio.add(session, path, cards))
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), **QUICK)
    for steps in (2, 6, 12):
        items = studio.merge(session, order)
        for _ in range(steps):
            next(items)
        items.close()
        outcome.expect(picture(studio) == before, f"another picture after {steps} steps")
    return outcome


def picture(studio: Studio) -> bytes:
    """The bytes of one picture in a visit of its own."""
    order = DrawOrder((), "a photo of a cat", steps=2, columns=("base",))
    items = studio.draw(studio.open_session(), order)
    *_, drawn = (item for item in items if isinstance(item, Picture))
    return drawn.path.read_bytes()
