"""The pictures on the page's first screen: `python -m assets.build.examples`.

Each bundled example is drawn twice from the same seeds, with its LoRAs loaded together and with
their merge, at the page's own settings, for every prompt with all concepts that the page suggests.
A picture is right when they are the detector's strongest classes. Kept is the prompt at which the
merge gains most, with the seed at which only the merge is right, and most clearly so, and the
counts beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from app.examples import examples
from app.prompts import example_prompts
from merging import formats
from merging.adapter import Adapter
from merging.base_models import MINI
from merging.calibration.prompts import is_style
from merging.diffusion.base import Base, load_base
from merging.diffusion.render import render
from merging.evaluation.detector import Detector, load_detector
from merging.io.assets import ASSETS
from merging.io.png import save_png
from merging.python_api import merge
from merging.request import MergeRequest, Source

SEEDS = 8
FOLDER = ASSETS / "examples"
WAYS = ("sum", "merged")


def main() -> None:
    """Write two pictures per example, and examples.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder = parser.parse_args().out
    folder.mkdir(exist_ok=True)
    base, detector = load_base(MINI.name, "cpu"), load_detector(ASSETS / "detector")
    rows = [compare(base, detector, example.files, folder) for example in examples()]
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    (folder / "examples.json").write_text(f"{text}\n", encoding="utf-8")
    print(text)


def compare(base: Base, detector: Detector, files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """The two pictures of one example, written to ``folder``; its row of examples.json."""
    loras = [formats.read(file, base.table) for file in files]
    triggers = [lora.trigger for lora in loras]
    ways = {"sum": [(lora, 1.0) for lora in loras], "merged": [(merged(base, loras), 1.0)]}
    scenes = []
    for prompt in example_prompts(triggers, MINI.name):
        pictures = {way: draw(base, prompt, adapters) for way, adapters in ways.items()}
        leads = {way: lead(detector, pictures[way], triggers) for way in WAYS}
        counts = {way: sum(value > 0 for value in leads[way]) for way in WAYS}
        scenes.append((counts["merged"] - counts["sum"], prompt, pictures, leads, counts))
    _, prompt, pictures, leads, counts = max(scenes, key=lambda scene: scene[0])
    seed = max(range(SEEDS), key=lambda seed: (leads["sum"][seed] <= 0, leads["merged"][seed]))
    names = [file.stem for file in files]
    for way in WAYS:
        save_png(pictures[way][seed], folder / f"{'+'.join(names)}-{way}.png")
    return {"loras": names, "prompt": prompt, "seed": seed, "seeds": SEEDS, **counts}


def merged(base: Base, loras: Sequence[Adapter]) -> Adapter:
    """The merge that the page makes at its defaults."""
    sources = tuple(Source(lora, 1.0, lora.trigger) for lora in loras)
    return merge(MergeRequest(sources), base).adapter


def draw(base: Base, prompt: str, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """A picture per seed."""
    return render(base, [prompt] * SEEDS, range(SEEDS), adapters=adapters)


def lead(detector: Detector, images: Sequence[Image.Image], triggers: Sequence[str]) -> list[float]:
    """For each picture, by how much the weakest of these looks is above all other classes.

    Above 0, the picture shows all of them and nothing else as clearly. Styles do not count.
    """
    wanted = torch.tensor([name in triggers for name in detector.classes])
    others = torch.tensor([not is_style(name) for name in detector.classes]) & ~wanted
    scores = detector.scores(images)
    return (scores[:, wanted].amin(dim=1) - scores[:, others].amax(dim=1)).tolist()


if __name__ == "__main__":
    main()
