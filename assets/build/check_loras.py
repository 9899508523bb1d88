"""Does each LoRA of the shelf bind? Its figure by the detector beside its bar, and its pictures.

`--detector` names a detector that knows every class asked about; `--only sks-cat …` picks files.
`--sheet` gets one row of pictures per LoRA: alone, beside things of the base, without its trigger.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from merging.bundled import BundledLora, shelf
from merging.diffusion.base import Base, load_base
from merging.evaluation.base_quality import (
    BARS,
    LOOK_PICTURES,
    draw,
    evaluate_looks,
    one_prompt,
    two_prompt,
)
from merging.evaluation.detector import load_detector
from merging.io.assets import ASSETS
from merging.runtime.progress import silent

CELL = 128  # pixels of the sheet


def main() -> None:
    """Print one line per LoRA as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, default=ASSETS / "detector")
    parser.add_argument("--only", nargs="*", help="file names without their ending")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    select_cases = [
        each for each in shelf() if not given.only or Path(each.file).stem in given.only
    ]
    base, detector = load_base("mini", "cpu"), load_detector(given.detector)
    if given.sheet:
        sheet(base, select_cases).save(given.sheet)
    print(
        f"| LoRA alone, {LOOK_PICTURES} pictures | there | and what was named strongest | passes |"
    )
    print("| --- | --- | --- | --- |")
    for entry in select_cases:
        row = evaluate_looks(base, detector, [entry], silent)["by"][entry.trigger]
        passes = "yes" if row["share"] >= BARS["LoRA alone"] else "no"
        print(
            f"| {entry.trigger} | {row['share']:.0%} | {row['first']:.0%} | {passes} |", flush=True
        )


def sheet(base: Base, entries: list[BundledLora]) -> Image.Image:
    """One row of pictures per LoRA."""
    rows = [_row(base, entry) for entry in entries]
    picture = Image.new("RGB", (max(map(len, rows)) * CELL, len(rows) * CELL))
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            picture.paste(cell.resize((CELL - 2, CELL - 2)), (x * CELL, y * CELL))
    return picture


def _row(base: Base, entry: BundledLora) -> list[Image.Image]:
    prompts = _styled(entry.trigger) if entry.kind == "style" else _placed(entry)
    return draw(base, prompts, range(len(prompts)), entry.adapter(base.table))


def _placed(entry: BundledLora) -> list[str]:
    alone, beside = (
        one_prompt(entry.trigger),
        (two_prompt(entry.trigger, "tree"), two_prompt("car", entry.trigger)),
    )
    return [*[alone] * 4, *beside, one_prompt(entry.object), one_prompt("penguin")]


def _styled(trigger: str) -> list[str]:
    picture_tasks = [
        *map(one_prompt, ("cat", "car", "house", "owl")),
        two_prompt("dog", "tree"),
        two_prompt("pizza", "balloon"),
    ]
    return [f"{text} in {trigger}" for text in picture_tasks] + [
        one_prompt("cat"),
        two_prompt("car", "tree"),
    ]


if __name__ == "__main__":
    main()
