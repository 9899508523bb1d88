"""The study of carried LoRAs, at its smallest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from merging.diffusion.base import Base
from merging.evaluation.detector import load_detector
from merging.evaluation.studies import carrying
from merging.runtime.progress import silent

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def smallest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sizes = {"PICTURES": 2, "PICTURE_STEPS": 2, "SAMPLES": 1, "FURTHER": 2, "TRAINING": 1}
    for name, size in sizes.items():
        monkeypatch.setattr(carrying, name, size)
    yield


def test_the_other_base_has_other_weights_in_its_unet_alone(base: Base) -> None:
    before = base.fingerprint
    other = carrying.further_trained(base, 2, silent)
    moved = {
        name.partition(".")[0]
        for name, layer in other.layers.items()
        if not torch.equal(layer.weight, base.layers[name].weight)
    }
    assert moved == {"unet"}
    assert Base("again", base.pipeline, base.device, base.dtype).fingerprint == before


def test_measures_a_lora_in_every_way(base: Base) -> None:
    rows = carrying.measure(base, load_detector(), None, 1, 2, silent)
    ways = ["on its own base", "as it is", "carried", "carried, 1 steps"]
    assert [row.way for row in rows] == ways
    own, *others = rows
    assert own.noise is own.layers is None
    assert all(row.noise and row.layers and 0 <= row.found <= 1 for row in others)
    lines = carrying.table(rows).splitlines()
    assert lines[2].startswith("| sks cat | on its own base |  |  | ")
    assert len(lines) == 2 + len(rows)
