"""The written files through diffusers' own loader: every module gets the change that we meant.

The models have the shapes of the real ones and no values: what is looked at is what the loader
adds, not what the model draws.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from peft.tuners.lora import LoraLayer as LoadedLayer
from torch import Tensor

from assets.build.layer_tables import bare, models
from merging.adapter import Adapter, LoraLayer
from merging.diffusion.base import Base
from merging.diffusion.loader_check import check_with_diffusers
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.formats import Written, read, table, write_diffusers, write_full, write_kohya
from merging.formats.layer_tables import flat
from merging.formats.verify import verify_file
from tests.merging.formats.handmade import Q_PROJ, factors, kohya, saved

WRITERS = (write_kohya, write_diffusers)
# ‖loaded − meant‖ / ‖meant‖ per module; what rounding two factors to the dtype costs at most
LIMITS = {torch.float16: 1e-3, torch.float32: 1e-6}


def pipeline(name: str) -> StableDiffusionPipeline:
    """A Stable Diffusion pipeline with the layers of a base; memory is claimed, never touched."""
    unet, text = (model.to_empty(device="cpu") for model in models(name))
    vae = AutoencoderKL(norm_num_groups=8, block_out_channels=(8,))
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def adapter(name: str) -> Adapter:
    """Every layer of a base, with mixed ranks and alphas that have nothing to do with them."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for n, (layer, shape) in enumerate(table(name).shapes.items()):
        rows, columns = flat(shape)
        rank = (3, 8, 1, 8, 5)[n % 5]
        up = 0.1 * torch.randn(rows, rank, generator=generator)
        down = 0.1 * torch.randn(rank, columns, generator=generator)
        layers[layer] = LoraLayer(up, down, alpha=(0.5, 4.0, 8.0, 1.7)[n % 4])
    return Adapter("merged", layers, name)


def loaded(pipe: StableDiffusionPipeline) -> dict[str, tuple[Tensor, Tensor]]:
    """What diffusers and peft add: canonical name → (scaling · B, A), flat."""
    found = {}
    parts = {"unet.": pipe.unet, "text_encoder.text_model.": pipe.text_encoder}
    for prefix, model in parts.items():
        for name, module in model.named_modules():
            if isinstance(module, LoadedLayer) and module.lora_A:
                ((key, down),) = module.lora_A.items()
                up = module.lora_B[key].weight.detach().flatten(1).double()
                down = down.weight.detach().flatten(1).double()
                found[prefix + bare(name)] = (module.scaling[key] * up, down)
    return found


def norm(up: Tensor, down: Tensor) -> float:
    """‖up @ down‖_F without the product: ‖R_u · R_dᵀ‖ of the factors' QR decompositions."""
    upper, lower = torch.linalg.qr(up, mode="r").R, torch.linalg.qr(down.T, mode="r").R
    return float((upper @ lower.T).norm())


def error(found: tuple[Tensor, Tensor], expected: LoraLayer) -> float:
    """‖found − expected‖ / ‖expected‖ of two changes."""
    up, down = expected.scale * expected.up.double(), expected.down.double()
    both = norm(torch.cat([found[0], -up], dim=1), torch.cat([found[1], down]))
    return both / norm(up, down)


# The real key set once per writer is enough.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("mini", torch.float16), ("mini", torch.float32), ("sd15", torch.float16)],
)
@pytest.mark.parametrize("write", WRITERS)
def test_diffusers_loads_the_changes_that_we_meant(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    write: Callable[..., Written],
    dtype: torch.dtype,
) -> None:
    expected = adapter(name)
    pipe = pipeline(name)
    write(expected, tmp_path / "merged.safetensors", dtype)
    with caplog.at_level(logging.WARNING):
        pipe.load_lora_weights(tmp_path, weight_name="merged.safetensors", adapter_name="merged")
    found = loaded(pipe)
    assert found.keys() == expected.layers.keys()
    errors = {layer: error(found[layer], expected.layers[layer]) for layer in found}
    worst = max(errors, key=lambda layer: errors[layer])
    print(
        f"{write.__name__} {name} {dtype}: {len(errors)} modules, largest error {errors[worst]:.1e}"
    )
    assert errors[worst] < LIMITS[dtype], f"{worst}: {errors[worst]:.1e}"
    assert "unexpected keys" not in caplog.text
    assert "missing keys" not in caplog.text


@pytest.mark.parametrize("write", WRITERS)
def test_a_base_loads_the_file_and_is_left_as_it_was(
    base: Base,
    random_adapter: Callable[..., Adapter],
    tmp_path: Path,
    write: Callable[..., Written],
) -> None:
    meant, path = random_adapter(1), tmp_path / "merged.safetensors"
    modules, before = dict(base.layers), render(base, ["a cat"], [0], steps=2)
    written = check_with_diffusers(base, path, meant, write(meant, path, torch.float16))
    assert written.loaded is not None and written.loaded < 1e-3
    assert "loaded by diffusers, error" in written.sentence
    now = base.pipeline.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_q")
    assert now is modules["unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q"]
    assert render(base, ["a cat"], [0], steps=2)[0].tobytes() == before[0].tobytes()
    assert path.is_file()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("ends", [("q_proj", "v_proj"), ("fc1",), ("q_proj", "fc1", "attn2.to_k")])
def test_few_layers_of_the_text_encoder_are_found_too(
    base: Base, tmp_path: Path, ends: tuple[str, ...], write: Callable[..., Written]
) -> None:
    """diffusers needs one of them to read the others; if it is missing, zeros are written."""
    meant, path = adapter("mini"), tmp_path / "merged.safetensors"
    meant = replace(meant, layers={k: v for k, v in meant.layers.items() if k.endswith(ends)})
    written = check_with_diffusers(base, path, meant, write(meant, path, torch.float32))
    assert written.modules == len(meant.layers)
    assert written.loaded is not None and written.loaded < 1e-6


def test_layers_that_diffusers_would_not_find_are_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", kohya({Q_PROJ: factors(Q_PROJ)}, {Q_PROJ: 4.0}))
    programs = verify_file(path, path.name, read(path), table("mini"), ()).programs
    assert programs == ("A1111", "Forge", "ComfyUI", "InvokeAI")


def test_a_file_that_loads_otherwise_than_meant_is_not_kept(
    base: Base, random_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    path = tmp_path / "merged.safetensors"
    written = write_kohya(random_adapter(1), path, torch.float16)
    with pytest.raises(
        MergeError, match=r"not saved: when diffusers loaded it, layer .* is off by"
    ):
        check_with_diffusers(base, path, random_adapter(2), written)
    assert not path.exists()
    assert not any(isinstance(each, LoadedLayer) for each in base.pipeline.unet.modules())


def test_whole_differences_are_not_for_diffusers(
    base: Base, random_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    meant, path = random_adapter(1, marks=("attn2.to_q",)), tmp_path / "whole.safetensors"
    written = write_full(meant, path, torch.float16)
    assert check_with_diffusers(base, path, meant, written).loaded is None
