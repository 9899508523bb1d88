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
    LoraConfig,
    PeftConfig,
    ShiraConfig,
    UniLoraConfig,
    VBLoRAConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import save_file
from torch import nn

from merging.diffusion.base import Base, canonical
from merging.errors import MergeError
from merging.formats import overview, read, table
from tests.merging.formats.families import CASES
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
VB = partial(VBLoRAConfig, r=4, num_vectors=40, vector_length=32)
SMALL: dict[str, tuple[str, Callable[..., PeftConfig]]] = {  # small beside the weights
    "SHiRA": ("SHiRA", partial(ShiraConfig, r=4, random_seed=1)),
    "VB-LoRA": ("VB-LoRA", VB),
    "VB-LoRA, three of a bank": ("VB-LoRA", partial(VB, topk=3)),
    "VB-LoRA without logits": ("VB-LoRA", partial(VB, topk=3, save_only_topk_weights=True)),
    "Uni-LoRA": ("Uni-LoRA", partial(UniLoraConfig, r=4, theta_d_length=300, save_indices=True)),
}
FAMILIES |= SMALL
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
MARKS = ("vera_", "fourierft_", "hra_", "boft_", "shira_", "vblora_", "unilora_")


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
    if live and name != "SHiRA":  # whose places are not in the state
        state = {key: value.clone() for key, value in model.state_dict().items()}
        own = {key: state[key] for key in state if any(mark in key for mark in MARKS)}
        save_file(own, tmp_path / FILE)
    dtype = torch.float64 if name in SMALL else torch.float32
    models[part].to(dtype)
    adapter = check(tmp_path / FILE, base, changes(models, base, names, dtype))
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


@pytest.mark.parametrize("live", [False, True])
def test_what_lora_xs_adds_to_peft(tmp_path: Path, base: Base, models: Models, live: bool) -> None:
    """A matrix beside the factors; peft drops the adapter's name before it."""
    model = get_peft_model(models["unet"], LoraConfig(r=4, lora_alpha=8, target_modules=[*LINEAR]))
    trained(model, ("lora_",))
    for layer in LINEAR:
        module = models["unet"].get_submodule(layer)
        module.default_lora_latent_mapping = nn.Linear(4, 4, bias=False)
    trained(model, ("latent",))
    model.save_pretrained(tmp_path)
    state = {key: value.clone() for key, value in model.state_dict().items() if "lora_" in key}
    short = {k.replace(".default", ""): v for k, v in state.items()}
    assert f"base_model.model.{LINEAR[0]}_lora_latent_mapping.weight" in short
    save_file(state if live else short, tmp_path / FILE)
    expected = {}
    for layer in LINEAR:
        module = models["unet"].get_submodule(layer)
        own = (
            module.lora_B["default"],
            module.default_lora_latent_mapping,
            module.lora_A["default"],
        )
        up, core, down = (one.weight.detach().double() for one in own)
        expected[canonical("unet", layer)] = 8 / 4 * up @ core @ down
    check(tmp_path / FILE, base, expected)


def test_pissa_is_read_once_peft_has_converted_it(
    tmp_path: Path, base: Base, models: Models
) -> None:
    """Training began on a changed base; the conversion takes the change back into the factors."""
    own = LoraConfig(r=4, lora_alpha=8, init_lora_weights="pissa", target_modules=[*LINEAR])
    model = get_peft_model(models["unet"], own)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    trained(model, ("lora_",))
    names = {canonical("unet", layer): layer for layer in LINEAR}
    expected = changes(models, base, names)
    model.save_pretrained(tmp_path / "raw")
    text = refusal(tmp_path / "raw" / FILE)
    assert "began with pissa, on a changed base model" in text and "path_initial_model" in text
    start = str(tmp_path / "start")
    model.save_pretrained(tmp_path, path_initial_model_for_weight_conversion=start)
    check(tmp_path / FILE, base, expected)


def test_an_alpha_of_0_is_no_change_in_peft_s_settings(tmp_path: Path, models: Models) -> None:
    """peft multiplies by alpha / rank; kohya's tensor of 0 is no alpha at all."""
    own = LoraConfig(r=4, lora_alpha=2, alpha_pattern={LINEAR[0]: 0}, target_modules=[*LINEAR])
    model = get_peft_model(models["unet"], own)
    trained(model, ("lora_",))
    model.save_pretrained(tmp_path)
    for layer, found in read(tmp_path / FILE).layers.items():
        change = (
            models["unet"].get_submodule(layer.removeprefix("unet.")).get_delta_weight("default")
        )
        assert change.any() == (layer != canonical("unet", LINEAR[0]))
        torch.testing.assert_close(found.delta(), change)
    assert overview(tmp_path / FILE).alphas == {2.0: 2, 0.0: 1}
    settings = json.loads((tmp_path / "adapter_config.json").read_text()) | {"lora_alpha": 0}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert "changes nothing" in refusal(tmp_path / FILE)


def test_unilora_needs_its_places(tmp_path: Path, models: Models) -> None:
    own = UniLoraConfig(r=4, theta_d_length=50, target_modules=[*LINEAR])
    get_peft_model(models["unet"], own).save_pretrained(tmp_path)
    assert "is Uni-LoRA without the places of its numbers" in refusal(tmp_path / FILE)


@pytest.mark.parametrize("settings", [{}, {"unet.topk": 10}, {"unet.topk": True}])
def test_vblora_needs_to_know_how_many(tmp_path: Path, settings: dict[str, int]) -> None:
    shapes = {"vblora_logits_A": (2, 4, 9), "vblora_logits_B": (2, 2, 9)}
    tensors = {f"{TO_K.name}.{key}": torch.ones(shape) for key, shape in shapes.items()}
    tensors["base_model.vblora_vector_bank"] = torch.ones(9, 32)
    header = {"lora_adapter_metadata": json.dumps(settings)}
    text = refusal(saved(tmp_path / "a.safetensors", tensors, header))
    assert "VB-LoRA without a usable topk" in text and "the same folder" in text


@pytest.mark.parametrize("name", ["SHiRA", "VB-LoRA", "Uni-LoRA"])
def test_places_outside_are_refused(tmp_path: Path, name: str) -> None:
    tensors = dict(CASES[name]().tensors)
    key = next(key for key in tensors if "indices" in key)
    tensors[key] = tensors[key].int() + 120
    path = saved(tmp_path / "a.safetensors", {f"{TO_K.name}.{k}": v for k, v in tensors.items()})
    assert f"layer {TO_K.name} has places outside 0 to " in refusal(path)
