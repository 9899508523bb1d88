"""Biases and normalisations as lycoris-lora and peft make them, beside our reading of the files."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from lycoris import LycorisNetwork, create_lycoris, create_lycoris_from_weights
from peft import PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose.scene import summed_deltas, summed_shifts
from merging.errors import MergeError
from merging.formats import read, write_full
from merging.formats.vector_deltas import count_by_kind, vector_lengths
from tests.merging.formats.producers import LAYERS, Models, config, trained

pytestmark = pytest.mark.usefixtures("quiet")
STRENGTH = 0.7
BIASED = {"lora_alpha": 3, "lora_bias": True, "init_lora_weights": True}  # peft asks for the last


def noise(unet: nn.Module) -> Tensor:
    """What a UNet makes of one random latent."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 8, 16, 16, generator=generator)
    states = torch.randn(1, 77, 128, generator=generator)
    return unet(latent, 500, encoder_hidden_states=states).sample


def with_ours(base: Base, adapter: Adapter, strength: float = STRENGTH) -> Tensor:
    used = [(adapter, strength)]
    with base.changed(summed_deltas(base, used)), base.changed(summed_shifts(base, used)):
        return noise(base.pipeline.unet)


def same(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() < 1e-4 * expected.norm())


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("algorithm", ["locon", "full"])
def test_lycoris(tmp_path: Path, base: Base, models: Models, algorithm: str) -> None:
    """A whole network of its own, and our full file in its own loader, give the same noise."""
    blocks = {"target_module": ["ResnetBlock2D", "Transformer2DModel"], "target_name": []}
    LycorisNetwork.apply_preset(blocks | {"enable_conv": True})
    ranks = {"linear_dim": 2, "linear_alpha": 1.0, "conv_dim": 2, "conv_alpha": 1.0}
    network = create_lycoris(models["unet"], STRENGTH, algo=algorithm, train_norm=True, **ranks)
    network.apply_to()
    trained(network)
    path = tmp_path / "a.safetensors"
    network.save_weights(path, torch.float32, {})
    adapter, expected = read(path, base.table), noise(models["unet"])
    counts = count_by_kind(vector_lengths(adapter.shifts))
    assert counts["normalisation"] == 2 * sum("norm" in name for name in adapter.shifts)
    assert ("bias" in counts) == (algorithm == "full")
    assert len(adapter.warnings) == 1
    assert same(with_ours(base, adapter), expected)
    assert not same(with_ours(base, Adapter("bare", adapter.layers)), expected)

    network.restore()
    write_full(adapter, path, torch.float32)
    ours = {f"lycoris_{key.removeprefix('lora_unet_')}": v for key, v in load_file(path).items()}
    again, _ = create_lycoris_from_weights(STRENGTH, "", models["unet"], ours)
    again.apply_to()
    assert same(noise(models["unet"]), expected)


@torch.no_grad()
def test_peft(tmp_path: Path, base: Base, models: Models) -> None:
    """Its ``lora_bias``, in the file that diffusers saves: what layers make of no input at all."""
    layers = tuple(name for name in LAYERS if base.layers[f"unet.{name}"].bias is not None)
    unet = models["unet"]
    unet.add_adapter(config(layers, BIASED))
    trained(unet, ("lora_",))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(unet),
        **_collate_lora_metadata({"unet": unet}),
    )
    adapter = read(tmp_path / "pytorch_lora_weights.safetensors", base.table)
    assert adapter.shifts.keys() == {f"unet.{name}" for name in layers} and len(layers) > 3
    for name, own in adapter.shifts.items():
        layer, before = unet.get_submodule(name.removeprefix("unet.")), base.layers[name]
        wide = before.weight.shape[1]
        nothing = torch.zeros(1, wide) if before.weight.ndim == 2 else torch.zeros(1, wide, 4, 4)
        change = (layer(nothing) - before(nothing)).reshape(len(before.weight), -1)
        torch.testing.assert_close(own.bias, change[:, 0])


WHOLE = {
    "modules": {"modules_to_save": ["conv_out", "time_embedding.linear_1", "conv_norm_out"]},
    "all biases": {"bias": "all"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", WHOLE)
def test_what_peft_saves_whole(tmp_path: Path, base: Base, models: Models, name: str) -> None:
    """Weights and vectors that are trained themselves: their change is read against the base."""
    wrapped = get_peft_model(models["unet"], config(LAYERS, {"lora_alpha": 8, **WHOLE[name]}))
    trained(wrapped, tuple(key for key, own in wrapped.named_parameters() if own.requires_grad))
    wrapped.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    adapter = read(path, base.table, weights=base.weight)
    assert adapter.based and adapter.shifts and not adapter.warnings[1:]
    loaded = PeftModel.from_pretrained(deepcopy(base.pipeline.unet), str(tmp_path))
    expected = noise(loaded.base_model.model)
    assert same(with_ours(base, adapter, 1.0), expected)
    bare = Adapter("bare", {k: v for k, v in adapter.layers.items() if k[5:] in LAYERS})
    assert not same(with_ours(base, bare, 1.0), expected)
    with pytest.raises(MergeError, match=r"(saved whole|whole weight), whose change"):
        read(path, base.table)
