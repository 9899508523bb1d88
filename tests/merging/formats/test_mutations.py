"""Files of every family, damaged at random: read, or refused in one sentence, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.errors import MergeError
from merging.formats import overview, read, table
from tests.merging.formats.families import CASES, noise, weight
from tests.merging.formats.handmade import SAMPLES, saved

BASES = {sample.name: weight(sample) for sample in SAMPLES}
TYPES = (torch.int64, torch.float16, torch.bfloat16, torch.uint8)


def mutated(tensors: dict[str, Tensor], dice: random.Random) -> dict[str, Tensor]:
    """One or two tensors lost, renamed, of another shape, type or size."""
    found = dict(tensors)
    for _ in range(dice.randint(1, 2)):
        key = dice.choice(sorted(found))
        shape = list(found[key].shape)
        match dice.choice(("lose", "swap", "cut", "drop", "add", "turn", "type", "wild")):
            case "lose":
                del found[key]
            case "swap":
                found[key] = found[dice.choice(sorted(found))].clone()
            case "cut":
                found[key] = noise(*(max(1, side + dice.choice((-1, 0, 1))) for side in shape))
            case "drop":
                found[key] = noise(*shape[1:])
            case "add":
                found[key] = found[key][..., None]
            case "turn":
                found[key] = noise(*shape[::-1])
            case "type":
                found[key] = found[key].to(dice.choice(TYPES))
            case "wild":
                found[key] = torch.full_like(found[key], dice.choice((1e30, -1.0, 0.0)))
        if not found:
            return tensors
    return {key: value for key, value in found.items() if value.ndim <= 4}


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_a_clear_refusal(tmp_path: Path, name: str) -> None:
    case, dice = CASES[name](), random.Random(name)
    for n in range(25):
        tensors = mutated(dict(case.tensors), dice)
        path = tmp_path / f"{n}.safetensors"
        saved(path, {f"{case.sample.kohya}.{key}": value for key, value in tensors.items()})
        try:
            overview(path, table("mini"))
            adapter = read(path, table("mini"), weights=BASES.get)
        except MergeError as error:
            text = str(error)
            assert text.startswith(path.name)
            assert "\n" not in text
            assert text.endswith((".", "?"))
            continue
        for layer in adapter.layers.values():
            assert layer.up.isfinite().all()
            assert layer.down.isfinite().all()
