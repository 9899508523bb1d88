"""Folders of peft's smaller families, beside what its modules then do."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import (
    BOFTConfig,
    FourierFTConfig,
    HRAConfig,
    PeftConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import save_file
from torch import nn

from merging.diffusion.base import Base, canonical
from merging.errors import MergeError
from merging.formats import read, table
from tests.merging.formats.handmade import TO_K, factors, kohya, refusal, saved
from tests.merging.formats.producers import CLIP_LAYERS, LAYERS, Models, changes, check, trained

pytestmark = pytest.mark.usefixtures("quiet")
LINEAR = LAYERS[:3]
FILE = "adapter_model.safetensors"
FAMILIES: dict[str, tuple[str, Callable[..., PeftConfig]]] = {
    "VeRA": ("VeRA", partial(VeraConfig, r=8)),
    "VeRA of a large rank": ("VeRA", partial(VeraConfig, r=256, projection_prng_key=5)),
    "FourierFT": ("FourierFT", partial(FourierFTConfig, n_frequency=300)),
    "FourierFT of another seed": (
        "FourierFT",
        partial(FourierFTConfig, n_frequency=12, random_loc_seed=3, scaling=40.0),
    ),
}
KERNELS: dict[str, tuple[str, Callable[..., PeftConfig]]] = {  # on kernels too
    "HRA": ("HRA", partial(HRAConfig, r=8)),
    "HRA, orthogonal": ("HRA", partial(HRAConfig, r=6, apply_GS=True)),
    "BOFT": ("BOFT by inputs", partial(BOFTConfig, boft_block_size=8)),
    "BOFT, a number of blocks": (
        "BOFT by inputs",
        partial(BOFTConfig, boft_block_size=0, boft_block_num=4),
    ),
}
FAMILIES |= KERNELS
MARKS = ("vera_", "fourierft_", "hra_", "boft_")


def wrapped(models: Models, part: str, name: str) -> tuple[nn.Module, dict[str, str]]:
    """The model with trained adapters, and canonical name → layer."""
    layers = CLIP_LAYERS if part == "text_encoder" else LINEAR
    layers = (*layers, *LAYERS[3:5]) if part == "unet" and name in KERNELS else layers
    model = get_peft_model(models[part], FAMILIES[name][1](target_modules=list(layers)))
    trained(model, MARKS)
    return model, {canonical(part, layer): layer for layer in layers}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
@pytest.mark.parametrize("live", [False, True])
def test_peft(tmp_path: Path, base: Base, models: Models, part: str, name: str, live: bool) -> None:
    """As peft saves it, and as the state of the live model has it."""
    model, names = wrapped(models, part, name)
    model.save_pretrained(tmp_path)
    if live:
        state = {key: value.clone() for key, value in model.state_dict().items()}
        own = {key: state[key] for key in state if any(mark in key for mark in MARKS)}
        save_file(own, tmp_path / FILE)
    adapter = check(tmp_path / FILE, base, changes(models, base, names))
    assert adapter.family == f"diffusers (PEFT), {FAMILIES[name][0]}"


def test_vera_needs_its_shared_matrices(tmp_path: Path, models: Models) -> None:
    """They are in the file unless the trainer left them out; alone they change nothing."""
    own = VeraConfig(r=8, target_modules=list(LINEAR), save_projection=False)
    get_peft_model(models["unet"], own).save_pretrained(tmp_path)
    text = refusal(tmp_path / FILE)
    assert "VeRA without the matrices" in text and "merge it into a checkpoint with peft" in text
    tensors = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0}) | {"base_model.vera_A": torch.ones(8, 64)}
    text = refusal(saved(tmp_path / "b.safetensors", tensors))
    assert "1 keys" in text and "base_model.vera_A" in text


@pytest.mark.parametrize("shape", [(8, 7), (7, 128)])
def test_vera_s_shared_matrices_are_as_large_as_its_layers(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    out, _ = TO_K.shape
    tensors = {
        f"{TO_K.name}.vera_lambda_b": torch.ones(out),
        f"{TO_K.name}.vera_lambda_d": torch.ones(8),
        "base_model.vera_A": torch.ones(shape),
        "base_model.vera_B": torch.ones(out, 8),
    }
    text = refusal(saved(tmp_path / "a.safetensors", tensors))
    assert f"vera_A {shape}" in text and "does not fit" in text


@pytest.mark.parametrize(
    "settings", [{}, {"scaling": 1.0}, {"random_loc_seed": -1, "scaling": 1.0}]
)
def test_fourierft_needs_its_seed(tmp_path: Path, settings: dict[str, float]) -> None:
    header = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in settings.items()})}
    tensors = {f"{TO_K.name}.fourierft_spectrum": torch.ones(9)}
    path = saved(tmp_path / "a.safetensors", tensors, header)
    with pytest.raises(MergeError, match=r"^a\.safetensors is FourierFT without .*same folder"):
        read(path, table("mini"))
