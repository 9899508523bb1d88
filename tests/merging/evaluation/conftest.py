"""A small contest: one step a picture, two references a LoRA."""

from __future__ import annotations

from pathlib import Path

import pytest

from merging.diffusion.base import Base
from merging.evaluation.cells import Arena
from merging.evaluation.detector import load_detector
from merging.evaluation.metrics import Scorers
from merging.scoring.clip import load_clip


@pytest.fixture(scope="module")
def scorers() -> Scorers:
    return Scorers(load_clip(), load_detector())


@pytest.fixture
def arena(base: Base, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arena:
    """With two reference pictures a LoRA and one prompt an objective, in place of 16 of both."""
    monkeypatch.setattr("merging.evaluation.cells.REFERENCES", 2)
    monkeypatch.setattr("merging.evaluation.layer_objective.SAMPLES", 1)
    return Arena(base, scorers, tmp_path, steps=1)
