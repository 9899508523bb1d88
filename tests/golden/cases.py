"""What the golden set holds: commands and calls with every option that decides their bytes.

The options are spelled out, so that a change of the defaults does not change what is asked for.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file

HERE = Path(__file__).parent
LORAS = HERE / "loras"
CAT, PIZZA = (str(LORAS / name) for name in ("sks-cat.safetensors", "vxz-pizza.safetensors"))
PROMPT = "a photo of a sks cat and a vxz pizza on a green background"
PAPER = ["--teacher", "single", "--mode", "delta", "--targets", "attention", "--fallback", "sum"]
PAGE = ["--teacher", "tsv", "--mode", "delta+residual", "--targets", "attention"]
SMALL = ["--samples", "6", "--seed", "3"]
DRAW = ["--base", "mini", "--prompt", PROMPT, "--seed", "5", "--steps", "6", "--guidance", "3"]
VOLATILE = ("seconds", "phases", "memory", "peak", "out", "file", "path", "answered", "command")

# name -> (the file that comes out, the arguments after `python -m merging`; {out} is that file)
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "sum": (
        "sum.safetensors",
        ["merge", f"{CAT}@0.9:lbw=MIDD", PIZZA, "--method", "sum", *PAPER, "--out", "{out}"],
    ),
    "tsv": (
        "tsv.safetensors",
        ["merge", CAT, PIZZA, "--method", "tsv", *PAPER, "--rank", "8", "--out", "{out}"],
    ),
    "paper": (
        "paper.safetensors",
        ["merge", CAT, PIZZA, "--method", "iteris", *PAPER, *SMALL, "--out", "{out}"],
    ),
    "page": (
        "page.safetensors",
        ["merge", CAT, PIZZA, "--method", "iteris", *PAGE, *SMALL, "--out", "{out}"],
    ),
    "composed": (
        "composed.safetensors",
        [
            *("merge", f"{CAT}@0.8", PIZZA, "--method", "iteris", "--teacher", "composed"),
            *("--mode", "delta", "--targets", "cross-attention", "--rank", "auto", *SMALL),
            *("--format", "diffusers", "--dtype", "fp32", "--out", "{out}"),
        ],
    ),
    "batch": (
        "batch.zip",
        [
            *("batch", CAT, PIZZA, "--methods", "sum", "regmean", "--strengths", "0.5,1", "1"),
            *(*PAPER, "--samples", "4", "--rank", "4", "--out", "{out}"),
        ],
    ),
    "replay": (
        "replay.safetensors",
        ["replay", str(HERE / "merged.safetensors"), PIZZA, CAT, "--out", "{out}"],
    ),
    "convert": ("convert.safetensors", ["convert", CAT, "{out}", "--format", "diffusers"]),
    "draw-sum": (
        "draw-sum",
        ["render", *DRAW, "--adapter", CAT, PIZZA, "--compose", "sum", "--out", "{out}"],
    ),
    "draw-gated": (
        "draw-gated",
        ["render", *DRAW, "--adapter", CAT, PIZZA, "--compose", "gated", "--out", "{out}"],
    ),
    "draw-merged": (
        "draw-merged",
        ["render", *DRAW, "--adapter", str(HERE / "merged.safetensors"), "--out", "{out}"],
    ),
}
# Commands that write nothing: what they answer with --json.
ANSWERS: dict[str, list[str]] = {
    "inspect": ["inspect", CAT, str(HERE / "merged.safetensors")],
    "conflicts": ["conflicts", CAT, PIZZA],
    "ranks": ["ranks", str(HERE / "merged.safetensors")],
}
# The arguments of one call of each endpoint, but for the files.
CALLS: dict[str, dict[str, Any]] = {
    "/merge": {
        "strengths": [1.0, 0.8],
        "triggers": ["sks cat", "vxz pizza"],
        "blocks": ["", "OUTALL"],
        "method": "iteris",
        "samples": 5,
        "targets": "cross-attention",
        "teacher": "tsv",
        "mode": "delta",
        "fallback": "sum",
        "rank": "4",
        "dtype": "fp16",
        "seed": 2,
    },
    "/render": {
        "prompt": PROMPT,
        "strengths": [0.7, 0.8],
        "base": "mini",
        "seed": 7,
        "steps": 5,
        "guidance": 3.0,
        "compose": "sum",
    },
}


def shape_of(answer: Any) -> Any:
    """An answer's keys and numbers: texts may become plainer, times and paths differ anyway."""
    if isinstance(answer, dict):
        return {
            key: shape_of(value)
            for key, value in answer.items()
            if not any(word in key for word in VOLATILE)
        }
    if isinstance(answer, list):
        return [shape_of(value) for value in answer]
    if isinstance(answer, float):
        return float(f"{answer:.4g}") if math.isfinite(answer) else str(answer)
    return "text" if isinstance(answer, str) else answer


def sketch(path: Path) -> Any:
    """What stands for a file where its bytes cannot: the norm of each tensor, or nothing."""
    if path.suffix != ".safetensors":
        return None
    return {key: float(f"{value.double().norm():.5g}") for key, value in load_file(path).items()}


def files_of(out: Path) -> list[Path]:
    """The files that a command has written: one, or those of a folder."""
    return sorted(out.iterdir()) if out.is_dir() else [out]


def pixels(path: Path) -> list[int]:
    """A small picture's values, for a comparison that rounding may not fail."""
    with Image.open(path) as image:
        return list(image.convert("RGB").resize((8, 8)).tobytes())


def read_expected() -> dict[str, Any]:
    """The answers of the version that the set was made with."""
    return json.loads((HERE / "expected.json").read_text("utf-8"))
