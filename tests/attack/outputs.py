"""The same request, the same bytes: over threads and processes, and after another's stopped job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from merging import formats
from merging.diffusion.base import load_base
from merging.export.save import save
from merging.python_api import merge
from merging.request import MergeRequest, Source
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, ROOT

METHODS = ("sum", "tsv", "iteris")
THREADS = (1, 2, 4)
QUICK = {"samples": 2, "targets": "cross-attention"}


def hashes() -> dict[str, str]:
    """Method → SHA-256 of the pair's merged file, made in this process."""
    base = load_base("mini", "cpu")
    sources = tuple(Source(formats.read(path)) for path in PAIR)
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for name in METHODS:
            result = merge(MergeRequest(sources, method=name, **QUICK), base)
            saved = save(result, Path(folder) / f"{name}.safetensors", base=base)
            made[name] = saved.written.sha256
        return made


def threads() -> Outcome:
    """The same merges with 1, 2 and 4 threads, and once more in another process."""
    outcome = Outcome("bytes of sum, tsv and iteris over threads and processes")
    runs = [_hashes_with(count) for count in (*THREADS, THREADS[0])]
    for name in METHODS:
        found = {run[name] for run in runs}
        outcome.expect(runs[0][name] == runs[-1][name], f"{name}: two processes, other bytes")
        outcome.expect(len(found) == 1, f"{name}: {len(found)} files over {THREADS} threads")
    outcome.figures = f"{', '.join(map(str, THREADS))} threads, 4 processes"
    return outcome


def _hashes_with(count: int) -> dict[str, str]:
    program = "import json; from tests.attack.outputs import hashes; print(json.dumps(hashes()))"
    environ = {**os.environ, "OMP_NUM_THREADS": str(count), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True
    )
    made: dict[str, str] = json.loads(done.stdout.decode().splitlines()[-1])
    return made


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
