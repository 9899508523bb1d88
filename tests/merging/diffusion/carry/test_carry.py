"""A LoRA carried between two bases: the embedded one, and a copy of it with other weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from merging.adapter import Adapter, VectorDelta
from merging.diffusion import calibration_samples as sampling
from merging.diffusion.base import Base
from merging.diffusion.carry.run import Carried, CarryOptions, carry, row_sets
from merging.diffusion.tokens import text_ids
from merging.errors import Cancelled, MergeError
from merging.export.carried import carried_header
from merging.export.save import save_adapter
from merging.io.files import CARRIED_KEY
from merging.linalg.delta import scaled_delta
from merging.request import Source
from tests.conftest import SHELF, distance, random_layer
from tests.merging.cli.commands import done, refused

pytestmark = pytest.mark.slow
TEXT = (".self_attn.",)
MARKS = (*TEXT, "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn")
FEW = CarryOptions(samples=1)


@pytest.fixture(scope="module")
def other(base: Base) -> Base:
    """The embedded base with every layer changed by a tenth of its size, in four directions."""
    copied = Base("other", copy.deepcopy(base.pipeline), base.device, base.dtype)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in copied.layers.values():
            change = random_layer(layer.weight.flatten(1), 4, 4.0, 0.1, generator).delta()
            layer.weight += change.reshape(layer.weight.shape)
    return copied


@pytest.fixture(scope="module")
def lora(random_adapter: Callable[..., Adapter]) -> Adapter:
    return random_adapter(1, 4, 2.0, MARKS, 0.1)


@pytest.fixture(scope="module")
def moved(base: Base, other: Base, lora: Adapter) -> Carried:
    return carry(lora, base, other, FEW)


def test_to_the_same_base_is_the_lora_itself(base: Base, lora: Adapter) -> None:
    same = carry(lora, base, base, FEW)
    assert distance(same.adapter, lora) < 1e-5
    assert max(same.plain.layers.values()) == same.plain.noise == 0.0
    assert max(*same.carried.layers.values(), same.carried.noise) < 1e-4


def test_keeps_layers_and_ranks(lora: Adapter, moved: Carried) -> None:
    ranks = {name: layer.rank for name, layer in lora.layers.items()}
    assert {name: layer.rank for name, layer in moved.adapter.layers.items()} == ranks
    assert distance(moved.adapter, lora) > 0.01


def test_comes_closer_on_prompts_that_were_held_out(base: Base, other: Base, lora: Adapter) -> None:
    moved = carry(lora, base, other, CarryOptions(samples=6))
    plain, after = moved.plain.layers, moved.carried.layers
    assert sum(after.values()) < 0.8 * sum(plain.values())


def test_every_layer_solves_its_least_squares(
    base: Base, other: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """With the inputs that both bases have in the end, found without the library's pass."""
    lora = random_adapter(3, 4, 2.0, TEXT, 0.3)
    options = CarryOptions(samples=3, rows=None, ridge=1e-3)
    moved = carry(lora, base, other, options).adapter
    sets = [one.prompts for one in row_sets(Source(lora), options)]
    old, new = text_inputs(base, lora, sets), text_inputs(other, moved, sets)
    for name, layer in lora.layers.items():
        full = layer.delta().double()
        pairs = list(zip(old[name], new[name], strict=True))
        ridge = options.ridge * sum((rows.T @ rows).norm() for _, rows in pairs)
        eye = ridge**0.5 * torch.eye(full.shape[1], dtype=torch.float64)
        left = torch.cat([*(rows for _, rows in pairs), eye])
        right = torch.cat([*(rows @ full.T for rows, _ in pairs), ridge**0.5 * full.T])
        wanted = torch.linalg.lstsq(left, right).solution.T
        got = moved.layers[name].delta().double()
        assert (got - wanted).norm() < 1e-3 * wanted.norm()
    assert (got - full).norm() > 0.01 * full.norm()


def text_inputs(
    base: Base, lora: Adapter, sets: Sequence[tuple[str, ...]]
) -> dict[str, list[Tensor]]:
    """Layer → its inputs for each set of prompts, in the base with the LoRA added."""
    seen: dict[str, list[Tensor]] = {name: [] for name in lora.layers}
    deltas = {name: scaled_delta(layer, 1.0) for name, layer in lora.layers.items()}
    hooks = [
        base.layers[name].register_forward_pre_hook(
            lambda _, inputs, name=name: seen[name].append(inputs[0].flatten(0, 1).double())
        )
        for name in lora.layers
    ]
    with torch.no_grad(), base.changed(deltas):
        for prompts in sets:
            base.pipeline.text_encoder(text_ids(base, prompts))
    for hook in hooks:
        hook.remove()
    return seen


def test_batches_change_nothing(
    base: Base, other: Base, lora: Adapter, moved: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "POSITIONS_PER_BATCH", 2 * 16 * 16)
    assert distance(carry(lora, base, other, FEW).adapter, moved.adapter) < 1e-4


def test_the_same_bytes_again(
    base: Base, other: Base, lora: Adapter, moved: Carried, tmp_path: Path
) -> None:
    files = []
    for place, result in enumerate((moved, carry(lora, base, other, FEW))):
        path = tmp_path / str(place) / "moved.safetensors"
        path.parent.mkdir()
        fields = carried_header(lora, base, other, FEW)
        save_adapter(result.adapter, path, "kohya", "fp16", fields)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_what_is_beside_the_layers_stays(
    base: Base, other: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """A bias, and the last layer of the text encoder, which clip skip leaves out."""
    lora = random_adapter(2, marks=TEXT, size=0.1)
    *_, last = lora.layers
    module = last.rpartition(".")[0] + ".out_proj"
    shift = VectorDelta(bias=torch.ones_like(base.modules[module].bias))
    lora = replace(lora, metadata={"ss_clip_skip": "2"}, shifts={module: shift})
    result = carry(lora, base, other, FEW)
    assert result.adapter.shifts == lora.shifts
    block = last.rpartition(".self_attn.")[0]
    skipped = [name for name in lora.layers if name.startswith(block)]
    first = [f"{block[:-1]}0.self_attn.{leaf}_proj" for leaf in "qkv"]  # their inputs are the same
    for name in lora.layers:
        same = distance(only(result.adapter, name), only(lora, name)) < 1e-6
        assert same == (name in (*skipped, *first))
    assert result.notes == (
        f"{len(skipped)} layers that clip skip 2 leaves out stay as they are, first {skipped[0]}.",
    )


def only(adapter: Adapter, layer: str) -> Adapter:
    return replace(adapter, layers={layer: adapter.layers[layer]})


def test_refuses_what_cannot_be_carried(base: Base, other: Base, lora: Adapter) -> None:
    wider = Base("wider", copy.deepcopy(base.pipeline), base.device, base.dtype)
    wider.pipeline.unet.conv_in = nn.Conv2d(9, wider.pipeline.unet.conv_in.out_channels, 3)
    with pytest.raises(MergeError, match=r"wider are of different architectures: unet\.conv_in"):
        carry(lora, base, wider, FEW)
    with pytest.raises(MergeError, match="type the phrase"):
        carry(replace(lora, trigger=""), base, other, FEW)
    silent = {name: replace(layer, alpha=0.0) for name, layer in lora.layers.items()}
    with pytest.raises(MergeError, match="changes nothing"):
        carry(replace(lora, layers=silent), base, other, FEW)
    for options in (CarryOptions(samples=0), CarryOptions(ridge=0.0), CarryOptions(steps=-1)):
        with pytest.raises(MergeError, match=r"not 0|no -1 steps"):
            carry(lora, base, other, options)


def test_training_goes_on_from_the_closed_form(
    base: Base, other: Base, random_adapter: Callable[..., Adapter]
) -> None:
    lora = random_adapter(4, 2, 2.0, ("unet.up_blocks.2.attentions.1",), 0.2)
    closed, trained = (
        carry(lora, base, other, CarryOptions(samples=1, steps=steps)) for steps in (0, 4)
    )
    assert trained.carried.noise < closed.carried.noise < trained.plain.noise
    assert trained.notes[-1].startswith("4 steps of training: the predicted noise misses")


def test_training_is_the_same_again(
    base: Base, other: Base, random_adapter: Callable[..., Adapter]
) -> None:
    lora = random_adapter(4, 2, 2.0, ("unet.up_blocks.2.attentions.1",), 0.2)
    options = CarryOptions(samples=1, steps=2)
    once, again = (carry(lora, base, other, options).adapter for _ in range(2))
    assert distance(once, again) == 0.0
    assert distance(once, carry(lora, base, other, CarryOptions(samples=1)).adapter) > 1e-3


def test_stops(base: Base, other: Base, lora: Adapter) -> None:
    with pytest.raises(Cancelled):
        carry(lora, base, other, FEW, stop=lambda: True)


def test_the_command_writes_the_file_and_its_figures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "cat.safetensors"
    words = ("carry", SHELF["sks cat"], "--from", "mini", "--to", "mini", "--samples", 1)
    said = done(capsys, *words, "--out", out)
    assert said["noise"]["plain"] == 0.0
    assert said["noise"]["carried"] < 1e-3
    with safe_open(out, "pt") as stream:
        made = json.loads(stream.metadata()[CARRIED_KEY])
    assert made["lora"]["name"] == "sks-cat"
    assert made["from"] == made["to"]
    assert made["samples"] == 1
    assert "--ridge" not in refused(capsys, *words, "--ridge", -1, "--out", out)
