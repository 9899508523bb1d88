"""SHiRA is written as peft loads it, where changes are sparse, and refused where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, ShiraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from merging.adapter import Adapter, LoraLayer
from merging.diffusion.base import canonical
from merging.engine import merge
from merging.errors import MergeError
from merging.formats import overview, read, table, write_shira
from merging.io.files import PEFT_WEIGHTS
from merging.request import MergeRequest, Source
from tests.conftest import SHELF
from tests.merging.cli.commands import done, refused
from tests.merging.formats.producers import CLIP_LAYERS, LAYERS, Models

pytestmark = pytest.mark.usefixtures("quiet")
LINEAR = {"unet": LAYERS[:3], "text_encoder": CLIP_LAYERS}
EXACT = 1e-6  # ‖Δ' − Δ‖ / ‖Δ‖ of every layer
MAT = table("mini").shapes


@pytest.fixture
def by_peft(models: Models, tmp_path: Path) -> Callable[..., Path]:
    """A SHiRA that peft has trained and saved: its file."""

    def make(name: str, part: str = "unet", seed: int = 1, r: int = 2) -> Path:
        settings = ShiraConfig(r=r, random_seed=seed, target_modules=list(LINEAR[part]))
        model = get_peft_model(deepcopy(models[part]), settings)
        torch.manual_seed(seed)
        for key, value in model.named_parameters():
            if "shira" in key:
                value.data = torch.randn_like(value)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name / PEFT_WEIGHTS

    return make


def stored(path: Path) -> dict[str, Tensor]:
    """Canonical name → Δ, by the numbers and places in a file."""
    tensors, changes = load_file(path), {}
    for key in tensors:
        name, mark, end = key.removeprefix("base_model.model.").rpartition(".shira_weight")
        if mark and not end:
            part = "unet" if "blocks" in name else "text_encoder"
            layer = canonical(part, name)
            rows, columns = tensors[key.replace("_weight", "_indices")].long()
            values = tensors[key].float()
            changes[layer] = torch.zeros(MAT[layer]).index_put((rows, columns), values)
    return changes


def loaded(model: nn.Module, folder: Path, layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Canonical name → Δ, by peft's own loader."""
    whole = PeftModel.from_pretrained(deepcopy(model), folder)
    found = {}
    for layer, module in layers.items():
        sparse = whole.base_model.model.get_submodule(module)
        found[layer] = sparse.get_delta_weight("default").to_dense().detach()
    return found


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for layer, change in expected.items():
        error = float((found[layer] - change).norm() / change.norm())
        assert error < EXACT, f"{layer}: {error:.1e}"


@pytest.mark.parametrize("part", LINEAR)
def test_what_is_written_peft_loads(
    tmp_path: Path, models: Models, by_peft: Callable[..., Path], part: str
) -> None:
    source, out = by_peft("source", part), tmp_path / "out" / PEFT_WEIGHTS
    written = write_shira(read(source), out, torch.float32)
    assert written.programs == ("peft",) and written.error < EXACT
    layers = {canonical(part, layer): layer for layer in LINEAR[part]}
    assert stored(source).keys() == layers.keys()
    same(loaded(models[part], out.parent, layers), stored(source))
    before, after = (PeftConfig.from_pretrained(path.parent) for path in (source, out))
    assert (after.peft_type, after.r) == (before.peft_type, before.r)
    assert overview(out).family == overview(source).family
    tensors, own = load_file(out), load_file(source)
    assert tensors.keys() == own.keys()
    for key in tensors:
        assert tensors[key].dtype == own[key].dtype and tensors[key].shape == own[key].shape
        assert "indices" not in key or tensors[key].equal(own[key])


@pytest.mark.parametrize("method", ["sum", "average"])
def test_a_merge_has_the_places_of_both(
    tmp_path: Path,
    models: Models,
    by_peft: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    """And is replayed to the same bytes."""
    one, two = by_peft("one", seed=1), by_peft("two", seed=2)
    out = tmp_path / "out" / PEFT_WEIGHTS
    command = ["merge", one, f"{two}@-0.5", "--method", method, "--dtype", "fp32"]
    said = done(capsys, *command, "--format", "shira", "--out", out)
    assert said["verified"]["programs"] == ["peft"]
    first, second = stored(one), stored(two)
    strengths = (1.0, -0.5) if method == "sum" else (1 / 1.5, -0.5 / 1.5)
    dense = {k: strengths[0] * first[k] + strengths[1] * second[k] for k in first}
    layers = {canonical("unet", layer): layer for layer in LINEAR["unet"]}
    same(loaded(models["unet"], out.parent, layers), dense)
    needed = [int(change.count_nonzero()) / sum(change.shape) for change in dense.values()]
    rank = json.loads((out.parent / "adapter_config.json").read_text())["r"]
    assert rank - 1 < max(needed) <= rank
    for layer, change in stored(out).items():
        assert change.count_nonzero() == dense[layer].count_nonzero()
    again = tmp_path / "again" / PEFT_WEIGHTS
    assert done(capsys, "replay", out, one, two, "--out", again)["same"]
    converted = tmp_path / "converted" / PEFT_WEIGHTS
    done(capsys, "convert", out, converted, "--format", "shira")
    same(stored(converted), stored(out))


def test_layers_of_fewer_entries_are_filled_up(tmp_path: Path) -> None:
    """peft has one r for all layers."""
    few, many = sparse(f"unet.{LAYERS[0]}", 3), sparse(f"unet.{LAYERS[1]}", 300)
    out = tmp_path / PEFT_WEIGHTS
    write_shira(Adapter("sparse", few | many, base="mini"), out, torch.float32)
    tensors = load_file(out)
    for layer, count in (*((name, 3) for name in few), *((name, 300) for name in many)):
        key = f"base_model.model.{layer.removeprefix('unet.')}"
        values, places = tensors[f"{key}.shira_weight"], tensors[f"{key}.shira_indices"]
        rank = -(-300 // sum(MAT[f"unet.{LAYERS[1]}"]))
        assert len(values) == places.shape[1] == rank * sum(MAT[layer])
        assert values.count_nonzero() == count
        assert len({(int(row), int(column)) for row, column in places.T}) == len(values)


def sparse(layer: str, count: int) -> dict[str, LoraLayer]:
    """A layer with so many entries at random places."""
    generator = torch.Generator().manual_seed(count)
    change = torch.zeros(MAT[layer]).flatten()
    change[torch.randperm(len(change), generator=generator)[:count]] = 1.0
    change = change.reshape(MAT[layer]).flatten(1)
    return {layer: LoraLayer(change, torch.eye(change.shape[1]), float(change.shape[1]))}


def test_what_shira_cannot_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat, out = SHELF["sks cat"], tmp_path / "out" / PEFT_WEIGHTS
    words = refused(capsys, "convert", cat, out, "--format", "shira")
    layer = next(iter(read(cat).layers))
    assert words == (
        f"SHiRA holds sparse changes, and 100% of the entries of layer {layer} are not zero; "
        "above 33% the format full is smaller: choose that one."
    )
    assert not out.parent.exists()
    words = refused(capsys, "convert", cat, tmp_path / "a.safetensors", "--format", "shira")
    assert words == (
        "peft loads SHiRA from a folder: write FOLDER/adapter_model.safetensors, not a.safetensors."
    )
    large = sparse("unet.time_embedding.linear_2", 20_000)
    square = sparse(f"unet.{LAYERS[0].replace('to_k', 'to_q')}", 3)
    unet, clip = (
        sparse(f"unet.{LAYERS[0]}", 3),
        sparse(canonical("text_encoder", CLIP_LAYERS[0]), 3),
    )
    for layers, sentence in (
        (unet | clip, "write one after the other, with FILE@1:te=0 and FILE@1:unet=0"),
        (sparse("unet.down_blocks.0.resnets.0.conv1", 3), "conv1 is a convolution"),
        (large | square, "linear_2 needs 40 for 31% of its entries, and .*to_q has room for 32"),
    ):
        with pytest.raises(MergeError, match=sentence):
            write_shira(Adapter("odd", layers, base="mini"), out, torch.float32)
    both = Source(Adapter("both", unet | clip, base="mini"), text_encoder=0.0)
    merged = merge(MergeRequest((both,), method="sum", rank="full")).adapter
    write_shira(merged, out, torch.float16)
    assert stored(out).keys() == unet.keys(), "each part alone can be written"
