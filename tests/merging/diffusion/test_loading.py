"""Bases in every form that people have them: folders, fp16 variants, a cache, single files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from merging.base_models import base_model
from merging.diffusion.base import Base, load_base
from merging.diffusion.loading import sd15_config
from merging.diffusion.loading.pipeline import load_pipeline
from merging.diffusion.loading.sd15_config import clip_tokenizer
from merging.errors import MergeError
from merging.formats import table
from merging.formats.key_names import ldm

MINI = Path(base_model("mini").source)
VAE_NAMES = (  # diffusers' names of an autoencoder → the original code's
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"(down|up)_blocks\.(\d)\.resnets\.", r"\1.\2.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.conv", r"down.\1.downsample.conv"),
    (r"up_blocks\.(\d)\.upsamplers\.0\.conv", r"up.\1.upsample.conv"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
)


def vae_name(name: str, levels: int) -> str:
    for pattern, original in VAE_NAMES:
        name = re.sub(pattern, original, name)
    # the original code counts the levels on the way up from the other end
    return re.sub(r"decoder\.up\.(\d)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)


def checkpoint(pipeline: StableDiffusionPipeline | SimpleNamespace) -> dict[str, Tensor]:
    """A pipeline as A1111's users have theirs: one file with the original names."""
    original = {module: name for name, module in ldm.modules(table("sd15")).items()}
    tensors = {}
    for key, value in pipeline.unet.state_dict().items():
        module, _, end = key.rpartition(".")
        tensors[f"model.diffusion_model.{original[f'unet.{module}']}.{end}"] = value
    levels = len(pipeline.vae.config.block_out_channels)
    for key, value in pipeline.vae.state_dict().items():
        pointwise = ".attentions." in key and value.ndim == 2
        name = f"first_stage_model.{vae_name(key, levels)}"
        tensors[name] = value[..., None, None] if pointwise else value
    for key, value in pipeline.text_encoder.state_dict().items():
        name = key.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = value
    return {key: value.contiguous() for key, value in tensors.items()}


NARROW = {  # all that makes Stable Diffusion 1.5 large
    "SD15_UNET": {
        "block_out_channels": (32, 64, 64, 64),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    },
    "SD15_TEXT_ENCODER": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 32,
    },
    "SD15_VAE": {"block_out_channels": (32,) * 4},
}


def test_a_single_file_is_the_model_that_it_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer of Stable Diffusion 1.5 by its original name, each of them narrow."""
    for name, sizes in NARROW.items():
        for key, size in sizes.items():
            monkeypatch.setitem(getattr(sd15_config, name), key, size)
    torch.manual_seed(0)
    parts = {
        "unet": UNet2DConditionModel.from_config(sd15_config.SD15_UNET),
        "vae": AutoencoderKL.from_config(sd15_config.SD15_VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**sd15_config.SD15_TEXT_ENCODER)),
    }
    path = tmp_path / "mine.safetensors"
    save_file(checkpoint(SimpleNamespace(**parts)), path)
    loaded = load_pipeline(str(path), torch.float32)
    for part, model in parts.items():
        wanted, found = model.state_dict(), getattr(loaded, part).state_dict()
        assert wanted.keys() == found.keys()
        assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert loaded.tokenizer("a cat").input_ids == clip_tokenizer()("a cat").input_ids


REFUSED = {
    "inpainting": ("input_blocks.0.0.weight", (320, 9, 3, 3), "is an inpainting model"),
    "SDXL": ("conditioner.embedders.0.x", (1,), "is SDXL"),
    "SD 2": ("cond_stage_model.model.x", (1,), "is Stable Diffusion 2"),
    "v": ("v_pred", (1,), "is a model that predicts v, not noise"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_checkpoints_are_refused_by_name(tmp_path: Path, case: str) -> None:
    key, shape, message = REFUSED[case]
    key = f"model.diffusion_model.{key}" if key.startswith("input") else key
    first = "model.diffusion_model.input_blocks.0.0.weight"
    path = tmp_path / "other.safetensors"
    save_file({first: torch.zeros(320, 4, 3, 3)} | {key: torch.zeros(shape)}, path)
    with pytest.raises(MergeError, match=rf"^other\.safetensors {message}; a base in one file is"):
        load_base(str(path), "cpu")


def test_parts_that_a_checkpoint_lacks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}, path)
    with pytest.raises(MergeError, match=r"^unet\.safetensors has no text encoder; a base in"):
        load_base(str(path), "cpu")
    path.write_bytes(b"PK\3\4")
    with pytest.raises(MergeError, match="is no safetensors file"):
        load_base(str(path), "cpu")


def test_a_folder_of_fp16_files_alone(tmp_path: Path, base: Base) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(MINI, dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    assert load_base(str(tmp_path / "half"), "cpu").fingerprint == base.fingerprint


@pytest.mark.parametrize("change", ["channels", "prediction"])
def test_other_folders_are_refused_in_one_sentence(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "other"
    pipeline = StableDiffusionPipeline.from_pretrained(MINI)
    if change == "channels":
        pipeline.unet.conv_in = torch.nn.Conv2d(9, 64, 3, padding=1)
        pipeline.unet.register_to_config(in_channels=9)
    else:
        pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    pipeline.save_pretrained(folder)
    reason = "is an inpainting model" if change == "channels" else "predicts v_prediction, not"
    with pytest.raises(MergeError, match=rf"{reason}.*Stable Diffusion 1\.x that draw from text"):
        load_base(str(folder), "cpu")


def test_a_base_in_the_cache_needs_no_network(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--mini"
    commit = "0" * 40
    shutil.copytree(MINI, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("diffusers.pipelines.pipeline_utils", "diffusers.utils.hub_utils"):
        monkeypatch.setattr(f"{name}.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("socket.socket.connect", _no_network)
    assert load_base("someone/mini", "cpu").fingerprint == base.fingerprint


def _no_network(*_: object) -> None:
    raise AssertionError("the network was asked")


def test_clip_s_tokenizer() -> None:
    """The ids that CLIP's tokenizer on the Hub gives."""
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.model_max_length == 77
