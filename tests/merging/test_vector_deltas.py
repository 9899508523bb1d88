"""Changes of biases and normalisations: merging, drawing, calibrating, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter, VectorDelta
from merging.blocks import apply_block_weights
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.compose.scene import summed_shifts
from merging.diffusion.gate import constant_gate, gated
from merging.diffusion.render import render
from merging.diffusion.tokens import text_ids
from merging.engine import MergeResult, merge
from merging.errors import MergeError
from merging.formats import read, table
from merging.formats.vector_deltas import vector_lengths
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance
from tests.merging.cli.commands import done
from tests.merging.formats.handmade import TO_K, factors, kohya, saved

BLOCK = "unet.down_blocks.0"
PARAMETERS = (  # of a linear layer, a convolution, a group and two layer normalisations
    f"{BLOCK}.attentions.0.transformer_blocks.0.attn1.to_out.0.bias",
    f"{BLOCK}.resnets.0.conv1.bias",
    f"{BLOCK}.resnets.0.norm2.weight",
    f"{BLOCK}.attentions.0.transformer_blocks.0.norm2.weight",
    f"{BLOCK}.attentions.0.transformer_blocks.0.norm2.bias",
    "text_encoder.text_model.encoder.layers.1.layer_norm1.weight",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1.bias",
)
CALIBRATED = ("iteris", "regmean")
METHODS_TRIED = [n for n, method in METHODS.items() if method.needs == "nothing" or n in CALIBRATED]


def vectors(adapter: Adapter) -> dict[str, Tensor]:
    """Parameter → its change."""
    return {
        f"{module}.{end}": vector
        for module, shift in adapter.shifts.items()
        for end, vector in shift.vectors().items()
    }


def with_shifts(adapter: Adapter, seed: int, left_out: int = 0) -> Adapter:
    """The adapter with random changes of PARAMETERS, without the first ``left_out``."""
    generator = torch.Generator().manual_seed(seed)
    shifts: dict[str, VectorDelta] = {}
    for name in PARAMETERS[left_out:]:
        module, _, end = name.rpartition(".")
        vector = 0.3 * torch.randn(table("mini").vectors[name], generator=generator)
        shifts[module] = shifts.get(module, VectorDelta()).plus(VectorDelta(**{end: vector}))
    return replace(adapter, shifts=shifts)


@pytest.fixture(scope="module")
def three(random_adapter: Callable[..., Adapter]) -> list[Adapter]:
    made = [random_adapter(seed, marks=("attn2.to_k",)) for seed in (1, 2, 3)]
    return [with_shifts(one, seed, seed) for seed, one in enumerate(made)]


def merged(base: Base, *sources: Source, **options: object) -> MergeResult:
    request = MergeRequest(
        sources, **{**SINGLE, "samples": 2, "targets": "cross-attention", **options}
    )
    return merge(request, activations(base))


@pytest.mark.parametrize("method", [n for n in METHODS_TRIED if not METHODS[n].averages])
def test_every_method_sums_them_at_the_strengths(
    base: Base, three: list[Adapter], method: str
) -> None:
    strengths = (0.5, -2.0, 1.0)
    sources = [Source(one, strength) for one, strength in zip(three, strengths, strict=True)]
    for count in (1, 2, 3):
        result = merged(base, *sources[:count], method=method)
        expected: dict[str, Tensor] = {}
        for one, strength in zip(three[:count], strengths[:count], strict=True):
            for name, vector in vectors(one).items():
                expected[name] = expected.get(name, 0) + strength * vector.double()
        actual = vectors(result.adapter)
        assert actual.keys() == expected.keys()
        for name, vector in expected.items():
            torch.testing.assert_close(actual[name].double(), vector, rtol=1e-6, atol=1e-7)
        (note,) = [note for note in result.report.notes if "normalisation" in note]
        assert note.startswith("3 biases and 4 normalisation vectors (of random-1")


@pytest.mark.parametrize("method", ["average", "mwa"])
def test_averages_weigh_them_as_they_weigh_layers(
    base: Base, three: list[Adapter], method: str
) -> None:
    """Of strengths 1 and 3, and of steps 1 and 2: 1/4 and 3/4, or 1/7 and 6/7, where both are."""
    steps = [replace(one, metadata={"ss_steps": str(n)}) for n, one in enumerate(three[:2], 1)]
    result = merged(base, Source(steps[0], 1.0), Source(steps[1], 3.0), method=method)
    total = {"average": 4, "mwa": 7}[method]
    actual, (one, two) = vectors(result.adapter), map(vectors, steps)
    for name in two:
        expected = one[name] / total + two[name] * (total - 1) / total
        torch.testing.assert_close(actual[name], expected)
    (alone,) = one.keys() - two.keys()
    torch.testing.assert_close(actual[alone], one[alone])
    assert "were averaged as the layers were" in result.report.notes[-1]


def test_one_lora_gives_its_vectors_back_bit_for_bit(base: Base, three: list[Adapter]) -> None:
    actual = vectors(merged(base, Source(three[0])).adapter)
    assert all(torch.equal(actual[name], vector) for name, vector in vectors(three[0]).items())


def test_order_does_not_matter(base: Base, three: list[Adapter]) -> None:
    sources = [Source(one, 0.7) for one in three]
    first, *others = (
        vectors(merged(base, *order, method="sum").adapter) for order in permutations(sources)
    )
    for other in others:
        for name, vector in first.items():
            torch.testing.assert_close(other[name], vector, rtol=1e-6, atol=1e-7)


def test_parts_and_blocks_weigh_them_too(three: list[Adapter]) -> None:
    actual = vectors(
        apply_block_weights(three[0], text_encoder=0.0, unet=0.5, weights={"IN01": 0.5})
    )
    assert actual.keys() == {name for name in PARAMETERS if name.startswith("unet.")}
    for name, vector in actual.items():
        torch.testing.assert_close(vector.float(), 0.25 * vectors(three[0])[name])


def test_values_that_are_not_finite_are_refused(base: Base, three: list[Adapter]) -> None:
    module = PARAMETERS[0].removesuffix(".bias")
    broken = replace(three[0], shifts={module: VectorDelta(bias=torch.full((64,), torch.inf))})
    with pytest.raises(MergeError, match=f"random-1: the vectors of {module} have values that"):
        merged(base, Source(broken), method="sum")


# --- in the model ---------------------------------------------------------------------------------


@pytest.fixture
def moved(three: list[Adapter]) -> Base:
    """Another base, with the first LoRA's vectors added to its parameters."""
    other = load_base("mini", "cpu")
    with torch.no_grad():
        for name, vector in vectors(three[0]).items():
            module, _, end = name.rpartition(".")
            other.modules[module].get_parameter(end).add_(vector)
    return other


@torch.no_grad()
def noise(base: Base) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 8, 16, 16, generator=generator)
    states = base.pipeline.text_encoder(text_ids(base, ["a photo of a cat"]))[0]
    return base.pipeline.unet(latent, 500, encoder_hidden_states=states).sample


def test_a_shift_is_what_changed_parameters_do(
    base: Base, moved: Base, three: list[Adapter]
) -> None:
    """Also under a gate that lets all LoRAs act everywhere; the base is unchanged afterwards."""
    before, expected = noise(base), noise(moved)
    gate = constant_gate(torch.ones(1, 2), base.pipeline.tokenizer.model_max_length, (16, 16))
    with base.changed(summed_shifts(base, [(three[0], 1.0)])):
        torch.testing.assert_close(noise(base), expected, rtol=1e-4, atol=1e-4)
    halves = [summed_shifts(base, [(three[0], share)]) for share in (0.25, 0.75)]
    with gated(base, halves, gate):
        torch.testing.assert_close(noise(base), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(noise(base), before)
    assert (expected - before).abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("compose", ["sum", "gated"])
def test_pictures_have_them(base: Base, moved: Base, three: list[Adapter], compose: str) -> None:
    """As much as the changed base has; a word gate keeps the text encoder's to the phrase."""
    bare = replace(three[0], shifts={})
    prompt = ["a photo of a rn1 cat"]
    drawn = [
        render(model, prompt, [0], adapters=[(one, 1.0)], steps=2, compose=compose)[0].tobytes()
        for model, one in ((base, three[0]), (moved, bare), (base, bare))
    ]
    if compose == "sum":
        close = [abs(a - b) for a, b in zip(drawn[0], drawn[1], strict=True)]
        assert max(close) <= 1
    assert drawn[0] != drawn[2]


def test_teachers_are_calibrated_with_them(base: Base, moved: Base, three: list[Adapter]) -> None:
    """RegMean's inputs are the teachers': both with the same shifts are both on a changed base."""
    pair = [replace(one, shifts=three[0].shifts) for one in three[:2]]
    bare = [Source(replace(one, shifts={})) for one in pair]
    options = {"method": "regmean", "samples": 4, "targets": "all"}
    with_them = merged(base, *map(Source, pair), **options).adapter
    assert distance(with_them, merged(moved, *bare, **options).adapter) < 1e-3
    assert distance(with_them, merged(base, *bare, **options).adapter) > 1e-2


def test_the_merged_model_has_them_too(base: Base, three: list[Adapter]) -> None:
    """A single LoRA gives itself back, so that its inputs do not drift; those of two do."""
    alone = merged(base, Source(three[0])).report.layers
    assert max(drift for row in alone for drift in row.drift.values()) < 1e-4
    both = merged(base, Source(three[0]), Source(three[1], 0.5)).report.layers
    assert max(drift for row in both for drift in row.drift.values()) > 1e-2


def test_another_base_is_refused(base: Base, three: list[Adapter]) -> None:
    wrong = replace(three[0], shifts={"unet.conv_norm_out": VectorDelta(bias=torch.ones(3))})
    for run in (
        lambda: merged(base, Source(wrong)),
        lambda: render(base, ["a cat"], [0], adapters=[(wrong, 1.0)]),
    ):
        with pytest.raises(MergeError, match=r"unet\.conv_norm_out\.bias \(3 numbers\) does not"):
            run()


# --- on the command line --------------------------------------------------------------------------


def test_files_are_looked_at_merged_and_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A merge as a full file has the vectors, as a LoRA says what it lacks; replay is the same."""
    tensors = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
    tensors |= {f"lora_unet_conv_norm_out.{end}": torch.ones(64) for end in ("w_norm", "b_norm")}
    source = saved(tmp_path / "in.safetensors", tensors)
    (entry,) = done(capsys, "inspect", source)["files"]
    assert entry["shifts"] == {"normalisation": 2} and entry["dropped"] == {}
    out = {form: tmp_path / f"{form}.safetensors" for form in ("full", "kohya")}
    words = ("merge", f"{source}@0.5", "--method", "sum", "--format")
    full, low = (done(capsys, *words, form, "--out", path) for form, path in out.items())
    assert "1 modules and 2 normalisation vectors" in full["verified"]["sentence"]
    assert full["verified"]["missing"] == {"A1111": 2}
    assert low["verified"]["without"] == "2 normalisation vectors"
    assert low["verified"]["loaded"] is None, "a sum loads no base that could try the file"
    actual = read(out["full"])
    assert vector_lengths(actual.shifts) == dict.fromkeys(
        ("unet.conv_norm_out.weight", "unet.conv_norm_out.bias"), 64
    )
    assert actual.shifts["unet.conv_norm_out"].bias.unique().tolist() == [0.5]
    again = tmp_path / "again.safetensors"
    assert done(capsys, "replay", out["full"], source, "--out", again)["same"]
    converted = done(capsys, "convert", source, again)
    assert converted["verified"]["without"] == "2 normalisation vectors"
    json.dumps(converted)


@pytest.mark.slow
def test_a_preview_shows_what_the_file_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a kohya file without the vectors, of a full file with them."""
    bare = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
    moved = bare | {"lora_unet_conv_norm_out.b_norm": torch.ones(64)}
    drawn = {}
    for form, tensors in (("kohya", moved), ("full", moved), ("diffusers", bare)):
        source, out = saved(tmp_path / "in.safetensors", tensors), tmp_path / "out.safetensors"
        words = ("merge", source, "--method", "sum", "--format", form, "--preview", "a cat")
        with Image.open(done(capsys, *words, "--out", out)["preview"]) as image:
            drawn[form] = image.tobytes()
    assert drawn["kohya"] == drawn["diffusers"] != drawn["full"]
