"""Whole differences: what is written is meant, for us, for lycoris-lora and for the programs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from merging.adapter import Adapter, LoraLayer
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.formats import read, write_full
from merging.formats.key_names.kohya import key_stems
from tests.conftest import SHELF, distance
from tests.merging.cli.commands import done, refused
from tests.merging.formats.handmade import CONV, PROJ_IN, TO_K, adapter, metadata
from tests.merging.formats.producers import effect, loaded

pytestmark = pytest.mark.usefixtures("quiet")
CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
DENSE = ("--mode", "delta+residual", "--targets", "cross-attention", "--samples", 1)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_what_is_written_is_read_back(tmp_path: Path, dtype: torch.dtype, limit: float) -> None:
    meant = adapter()
    written = write_full(meant, tmp_path / "a.safetensors", dtype)
    assert written.programs == ("A1111", "Forge", "ComfyUI", "InvokeAI")
    assert written.sentence.endswith(
        "keys fit A1111, Forge, ComfyUI and InvokeAI, for the embedded mini model only"
    )
    found = read(tmp_path / "a.safetensors")
    assert distance(found, meant) < limit
    assert found.family == "kohya, full difference"
    fields = metadata(tmp_path / "a.safetensors")
    assert fields["ss_network_module"] == "lycoris.kohya"
    assert "ss_network_dim" not in fields
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    for sample in (CONV, PROJ_IN, TO_K):
        assert tensors[f"{sample.kohya}.diff"].shape == sample.shape


@pytest.mark.slow
@torch.no_grad()
def test_lycoris_loads_the_changes_that_we_meant(tmp_path: Path, base: Base) -> None:
    """Every layer, by its own loader, and what its modules then do."""
    meant = adapter()
    write_full(meant, tmp_path / "a.safetensors", torch.float32)
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert len(tensors) == len(meant.layers)
    for name, own in meant.layers.items():
        stem, layer = key_stems(name)[0], deepcopy(base.layers[name])
        weight = layer.weight.detach().clone()
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)  # every pixel is looked at
        loaded({f"{stem}.diff": tensors[f"{stem}.diff"]}, stem, layer)
        found, change = effect(layer, weight, torch.float32), own.delta().double()
        assert (found - change).norm() < 1e-5 * (change.norm() + weight.norm())


def test_values_too_small_for_the_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match=r"does not fit into float16 .*save as fp32"):
        write_full(adapter(scale=1e-5), tmp_path / "a.safetensors", torch.float16)
    zero = LoraLayer(torch.zeros(64, 1), torch.zeros(1, 128), 1.0)
    with pytest.raises(MergeError, match="all of its layers are zero"):
        write_full(Adapter("z", {TO_K.name: zero}), tmp_path / "a.safetensors", torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_dense_answer_is_not_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer of delta+residual has more ranks than the LoRAs together; a LoRA cuts it."""
    paths = {form: tmp_path / f"{form}.safetensors" for form in ("full", "kohya")}
    for form, path in paths.items():
        output = done(
            capsys, "merge", CAT, PIZZA, *DENSE, "--format", form, "--dtype", "fp32", "--out", path
        )
        rows = output["report"]["layers"]
        kept = [row["kept_energy"] for row in rows if row["objective"]]
        assert (min(kept) > 0.999999) == (form == "full")
    most = {
        form: max(each.rank for each in read(path).layers.values()) for form, path in paths.items()
    }
    assert most["kohya"] == 16 < most["full"]
    again = done(
        capsys, "replay", paths["full"], CAT, PIZZA, "--out", tmp_path / "again.safetensors"
    )
    assert again["same"]


def test_a_low_rank_answer_may_be_whole_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{form}.safetensors" for form in ("full", "kohya")]
    for path in paths:
        more = ("--format", path.stem, "--dtype", "fp32", "--out", path)
        done(capsys, "merge", CAT, PIZZA, "--method", "sum", *more)
    assert distance(*map(read, paths)) < 1e-5


def test_an_unknown_rank_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "merge", CAT, PIZZA, "--rank", "0", "--out", tmp_path / "a")
    assert "exact, auto, full or a number from 1, not 0" in sentence
