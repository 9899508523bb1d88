"""Energy and size over rank, beside dense singular values and real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from merging import formats
from merging.__main__ import main
from merging.analysis.rank_curve import rank_curve, truncate_rank
from tests.conftest import SHELF, distance

CAT = SHELF["sks cat"]


def test_the_curve_is_that_of_the_dense_changes() -> None:
    adapter = formats.read(CAT)
    points = rank_curve(adapter)
    spectra = [
        torch.linalg.svdvals(layer.delta().double()).square() for layer in adapter.layers.values()
    ]
    total = sum(float(each.sum()) for each in spectra)
    for point in points:
        kept = sum(float(each[: point.rank].sum()) for each in spectra)
        assert point.energy == pytest.approx(kept / total, abs=1e-9)
    assert points[-1].energy == pytest.approx(1.0, abs=1e-12)
    assert [point.rank for point in points] == [1, 2, 4, 8]


def test_cutting_loses_what_the_curve_says_and_makes_files_of_its_size(tmp_path: Path) -> None:
    adapter = formats.read(CAT)
    whole = sum(float(layer.delta().double().square().sum()) for layer in adapter.layers.values())
    for point in rank_curve(adapter, torch.float16):
        small = truncate_rank(adapter, point.rank)
        lost = sum(
            float((layer.delta().double() - small.layers[name].delta().double()).square().sum())
            for name, layer in adapter.layers.items()
        )
        assert 1 - lost / whole == pytest.approx(point.energy, abs=1e-6)
        path = tmp_path / f"{point.rank}.safetensors"
        formats.write_kohya(small, path, torch.float16)
        header = 2**14 / 2**20  # names, shapes and alphas
        assert 0 < path.stat().st_size / 2**20 - point.megabytes < 3 * header
    assert distance(truncate_rank(adapter, "exact"), adapter) < 1e-5


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "curve.png"
    assert main(["ranks", str(CAT), "--plot", str(plot), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["points"][-1]["rank"] == 8
    assert Image.open(plot).size[0] > 300
    assert main(["ranks", str(CAT)]) == 0
    assert "100.00%" in capsys.readouterr().out
