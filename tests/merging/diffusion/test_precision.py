"""The base model in other precisions: less exact, the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from merging import formats
from merging.__main__ import main
from merging.adapter import Adapter
from merging.base_models import base_model
from merging.diffusion.base import Base, load_base, pick_dtype
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.engine import merge
from merging.errors import MergeError
from merging.io.files import read_recipe
from merging.options import Precision
from merging.request import MergeRequest, Source
from tests.conftest import SHELF, SINGLE, distance

PROMPT = "a photo of a cat and a pizza on a green background"


def test_diffusers_alone_loads_the_embedded_base_in_single_precision() -> None:
    """With nothing said but the folder, although its files are in half precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(base_model("mini").source)
    parts = (pipeline.text_encoder, pipeline.unet, pipeline.vae)
    assert {part.dtype for part in parts} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a cat", num_inference_steps=2).images[0]
    assert np.asarray(picture).std() > 5


@pytest.mark.parametrize(
    ("device", "asked", "found"),
    [
        ("cpu", "auto", torch.float32),
        ("cuda", "auto", torch.float16),
        ("cpu", "bf16", torch.bfloat16),
        ("mps", "fp32", torch.float32),
    ],
)
def test_what_a_precision_comes_to(device: str, asked: Precision, found: torch.dtype) -> None:
    assert pick_dtype(torch.device(device), asked) is found


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(MergeError, match="must be auto, fp32, fp16, bf16, not 'fp8'"):
        load_base("mini", "cpu", "fp8")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def request_of_two() -> MergeRequest:
    sources = tuple(Source(formats.read(SHELF[each])) for each in ("sks cat", "vxz pizza"))
    return MergeRequest(sources, samples=1, targets="cross-attention", **SINGLE)


@pytest.fixture(scope="module")
def exact(base: Base, request_of_two: MergeRequest) -> Adapter:
    """The merge in float32."""
    return merge(request_of_two, activations(base)).adapter


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "rounding"), [("fp16", 0.02), ("bf16", 0.1)])
def test_merges_and_pictures_come_out_alike(
    base: Base,
    exact: Adapter,
    request_of_two: MergeRequest,
    precision: Precision,
    rounding: float,
) -> None:
    rough = load_base("mini", "cpu", precision)
    other = merge(request_of_two, activations(rough)).adapter
    assert 0 < distance(other, exact) < rounding
    # Half precision is slow on a CPU: a quarter of the picture tells as much.
    asked: dict[str, Any] = {"adapters": [(exact, 1.0)], "steps": 2, "size": "32x32"}
    fine, coarse = (
        np.asarray(render(each, [PROMPT], [1], **asked)[0], float) for each in (base, rough)
    )
    assert 0 < np.abs(fine - coarse).mean() < 255 * rounding


@pytest.mark.slow
def test_a_replay_takes_the_recipe_s_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(SHELF[each]) for each in ("sks cat", "vxz pizza")]
    given = ["--samples", "1", "--targets", "cross-attention", "--precision", "bf16"]
    assert main(["merge", *files, *given, "--out", str(tmp_path / "a.safetensors")]) == 0
    recipe = read_recipe(formats.read(tmp_path / "a.safetensors").metadata)
    assert recipe is not None and recipe["base_precision"] == "bf16"
    capsys.readouterr()
    again = ["replay", str(tmp_path / "a.safetensors"), *files]
    assert main([*again, "--out", str(tmp_path / "b.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"]
