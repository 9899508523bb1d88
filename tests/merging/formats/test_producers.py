"""Files that lycoris-lora, peft and diffusers write, beside what their own modules then do.

The change is what a producer's module makes of single channels or pixels, less the base's weight:
nothing is taken from its code but its answers. It must be ours when the file is read, and still be
there after a merge of that file alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from lycoris import LycorisNetwork, create_lycoris
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from merging.diffusion.base import Base, canonical
from merging.errors import MergeError
from merging.formats import read
from tests.merging.formats.producers import (
    CLIP_LAYERS,
    LAYERS,
    Models,
    changes,
    check,
    config,
    trained,
)

pytestmark = pytest.mark.usefixtures("quiet")


LYCORIS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("locon", {}),
    "LoRA, Tucker": ("locon", {"use_tucker": True}),
    "LoRA, rank-stabilised": ("locon", {"rs_lora": True}),
    "LoRA, scalar": ("locon", {"use_scalar": True}),
    "LoHa": ("loha", {}),
    "LoHa, Tucker": ("loha", {"use_tucker": True}),
    "LoKr": ("lokr", {"factor": 4}),
    "LoKr, both decomposed": ("lokr", {"factor": 8, "decompose_both": True, "linear_dim": 2}),
    "LoKr, whole": ("lokr", {"factor": 4, "full_matrix": True}),
    "LoKr, Tucker": ("lokr", {"factor": 8, "use_tucker": True, "conv_dim": 2}),
    "full difference": ("full", {}),
    "GLoRA": ("glora", {}),
    "IA³": ("ia3", {}),
    "OFT": ("diag-oft", {}),
    "OFT, rescaled": ("diag-oft", {"rescaled": True, "constraint": 1e-3}),
    "OFT, butterfly": ("boft", {}),
    "LoRA DoRA": ("locon", {"dora_wd": True}),
    "LoRA DoRA, by inputs": ("locon", {"dora_wd": True, "wd_on_output": False}),
    "LoHa DoRA": ("loha", {"dora_wd": True}),
    "LoKr DoRA": ("lokr", {"factor": 8, "dora_wd": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LYCORIS)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_lycoris(tmp_path: Path, base: Base, models: Models, name: str, part: str) -> None:
    algorithm, options = LYCORIS[name]
    names = {canonical(part, key): key for key in (LAYERS if part == "unet" else CLIP_LAYERS)}
    LycorisNetwork.apply_preset(
        {"target_module": [], "target_name": list(names.values()), "enable_conv": True}
    )
    ranks = {"linear_dim": 4, "linear_alpha": 2.0, "conv_dim": 4, "conv_alpha": 1.0}
    network = create_lycoris(models[part], 1.0, algo=algorithm, **(ranks | options))
    network.apply_to()
    trained(network)
    path = tmp_path / "a.safetensors"
    network.save_weights(path, torch.float32, {})
    dtype = torch.float32 if "OFT" in name else torch.float64  # OFT's modules take no other
    network.to(dtype), models[part].to(dtype)
    adapter = check(path, base, changes(models, base, names, dtype))
    family = name.partition(",")[0].removeprefix("LoRA ")
    assert adapter.family == ("kohya" if family == "LoRA" else f"kohya, {family}")


LORA: dict[str, dict[str, Any]] = {
    "alpha": {"lora_alpha": 3},
    "patterns": {
        "lora_alpha": 4,
        "rank_pattern": {LAYERS[0]: 2, CLIP_LAYERS[0]: 2},
        "alpha_pattern": {LAYERS[0]: 5, LAYERS[3]: 1, CLIP_LAYERS[0]: 3},
    },
    "rank-stabilised": {"lora_alpha": 2, "use_rslora": True},
    "DoRA": {"lora_alpha": 2, "use_dora": True},
}


def add_adapters(
    models: Models, add: Callable[[nn.Module, tuple[str, ...]], None]
) -> dict[str, str]:
    """Adapters of random values in both models; canonical name → name in its model."""
    found = {}
    for part, layers in (("unet", LAYERS), ("text_encoder", CLIP_LAYERS)):
        add(models[part], layers)
        trained(models[part], ("lora_",))
        found |= {canonical(part, name): name for name in layers}
    return found


@pytest.mark.parametrize("name", LORA)
def test_diffusers(tmp_path: Path, base: Base, models: Models, name: str) -> None:
    """As its training scripts save: PEFT's keys, the configuration in the header."""
    names = add_adapters(models, lambda model, to: model.add_adapter(config(to, LORA[name])))
    tensors = {part: get_peft_model_state_dict(model) for part, model in models.items()}
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=tensors["unet"],
        text_encoder_lora_layers=tensors["text_encoder"],
        **_collate_lora_metadata(models),
    )
    expected = changes(models, base, names)
    adapter = check(tmp_path / "pytorch_lora_weights.safetensors", base, expected)
    assert adapter.family == "diffusers (PEFT)" + (", DoRA" if name == "DoRA" else "")


CONVERTERS = {
    "kohya": convert_state_dict_to_kohya,
    "before PEFT": convert_state_dict_to_diffusers,
}


@pytest.mark.parametrize("spelling", CONVERTERS)
def test_diffusers_other_spellings(
    tmp_path: Path, base: Base, models: Models, spelling: str
) -> None:
    """Its own converters; what they write has no configuration, so alpha is the rank."""
    names = add_adapters(models, lambda model, to: model.add_adapter(config(to, {"lora_alpha": 4})))
    tensors = {
        f"{part}.{key}": value
        for part, model in models.items()
        for key, value in get_peft_model_state_dict(model).items()
    }
    tensors = CONVERTERS[spelling](tensors)
    path = tmp_path / "a.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    check(path, base, changes(models, base, names))


@pytest.mark.parametrize("name", LORA)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_peft(tmp_path: Path, base: Base, models: Models, name: str, part: str) -> None:
    """A folder as PEFT saves it: bare names, the configuration beside them."""
    layers = LAYERS if part == "unet" else CLIP_LAYERS
    wrapped = get_peft_model(models[part], config(layers, LORA[name]))
    trained(wrapped, ("lora_",))
    wrapped.save_pretrained(tmp_path)
    names = {canonical(part, layer): layer for layer in layers}
    check(tmp_path / "adapter_model.safetensors", base, changes(models, base, names))


@pytest.mark.parametrize("spelling", CONVERTERS)
def test_diffusers_settings_beside_other_spellings(
    tmp_path: Path, base: Base, models: Models, spelling: str
) -> None:
    """As its scripts for Stable Diffusion save: names of 2023, and alpha in the header alone."""
    options = {"lora_alpha": 8, "rank_pattern": {LAYERS[0]: 2}, "alpha_pattern": {LAYERS[0]: 5}}
    names = add_adapters(models, lambda model, to: model.add_adapter(config(to, options)))
    tensors = {
        f"{part}.{key}": value.contiguous()
        for part, model in models.items()
        for key, value in get_peft_model_state_dict(model).items()
    }
    settings = {
        f"{part}.{key}": value
        for part, own in zip(models, _collate_lora_metadata(models).values(), strict=True)
        for key, value in own.items()
    }
    tensors = {k: v for k, v in CONVERTERS[spelling](tensors).items() if not k.endswith(".alpha")}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps(settings, default=str)})
    check(path, base, changes(models, base, names))


def test_diffusers_with_patterns_that_are_regular_expressions(
    tmp_path: Path, base: Base, models: Models
) -> None:
    """peft documents them as names or regular expressions (peft issue 3582)."""
    unet = models["unet"]
    patterns = {
        "rank_pattern": {r".*attn2\.to_k": 8},
        "alpha_pattern": {r".*attn[12]\.to_.*": 16.0},
    }
    unet.add_adapter(_pattern_config(patterns))
    trained(unet, ("lora_",))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(unet),
        **_collate_lora_metadata({"unet": unet}),
    )
    names = {canonical("unet", name): name for name in LAYERS}
    check(tmp_path / "pytorch_lora_weights.safetensors", base, changes(models, base, names))


def _pattern_config(patterns: Mapping[str, Any]) -> LoraConfig:
    return LoraConfig(
        r=4, lora_alpha=8, target_modules=list(LAYERS), init_lora_weights="gaussian", **patterns
    )


def test_a_live_model_s_state(tmp_path: Path, base: Base, models: Models) -> None:
    """A checkpoint saved from the modules: keys hold the adapter's name, and no alpha is known."""
    unet = models["unet"]
    unet.add_adapter(config(LAYERS, {"lora_alpha": 4}), adapter_name="my_style")
    trained(unet, ("lora_",))
    state = {f"unet.{k}": v.contiguous() for k, v in unet.state_dict().items() if "lora_" in k}
    save_file(state, tmp_path / "a.safetensors")
    names = {canonical("unet", name): name for name in LAYERS}
    adapter = check(tmp_path / "a.safetensors", base, changes(models, base, names))
    assert f"{len(LAYERS)} layers have no alpha" in " ".join(adapter.warnings)


LYCORIS_OF_PEFT: dict[str, tuple[type, dict[str, Any]]] = {
    "LoHa": (LoHaConfig, {"alpha": 8}),
    "LoHa, patterns": (LoHaConfig, {"rank_pattern": {"to_k": 2}, "alpha_pattern": {"conv1": 3}}),
    "LoHa, Tucker": (LoHaConfig, {"use_effective_conv2d": True}),
    "LoKr": (LoKrConfig, {"alpha": 8, "decompose_factor": 4}),
    "LoKr, both decomposed": (LoKrConfig, {"r": 2, "decompose_both": True}),
    "LoKr, whole halves": (LoKrConfig, {"r": 64, "alpha": 16}),
}


@pytest.mark.parametrize("name", LYCORIS_OF_PEFT)
def test_lycoris_of_peft(tmp_path: Path, base: Base, models: Models, name: str) -> None:
    """Folders of peft's LoHa and LoKr (peft issue 1065), whose alpha is in adapter_config.json."""
    make, options = LYCORIS_OF_PEFT[name]
    own = make(target_modules=list(LAYERS), init_weights=True, **{"r": 4, **options})
    wrapped = get_peft_model(models["unet"], own)
    trained(wrapped, ("hada_", "lokr_"))
    wrapped.save_pretrained(tmp_path)
    names = {canonical("unet", layer): layer for layer in LAYERS}
    models["unet"].double()  # a product of six factors is small beside the weights
    expected = changes(models, base, names, torch.float64)
    adapter = check(tmp_path / "adapter_model.safetensors", base, expected)
    assert adapter.family == f"diffusers (PEFT), {name.partition(',')[0]}"


def test_t_lora_is_refused_by_name(tmp_path: Path, models: Models) -> None:
    LycorisNetwork.apply_preset({"target_module": [], "target_name": list(LAYERS)})
    network = create_lycoris(models["unet"], 1.0, algo="tlora", linear_dim=4, linear_alpha=4)
    network.apply_to()
    network.save_weights(tmp_path / "a.safetensors", torch.float32, {})
    with pytest.raises(MergeError, match="is written as T-LoRA, which cannot be read"):
        read(tmp_path / "a.safetensors")
