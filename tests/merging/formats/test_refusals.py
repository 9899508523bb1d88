"""Files that are no LoRA for Stable Diffusion 1.x, or a broken one: refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.errors import MergeError
from merging.formats import read
from tests.merging.formats.handmade import CONV, PROJ_IN, TO_K, factors, kohya, raw, refusal, saved

GOOD = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
DOWN, UP, ALPHA = (f"{TO_K.kohya}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))


def tensors(*keys: str, shape: tuple[int, ...] = (4, 8)) -> dict[str, Tensor]:
    return {key: torch.ones(shape) for key in keys}


ATTN2 = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
# Files of other kinds, and what the message must call them.
OTHER_FILES: dict[str, tuple[dict[str, Tensor], str]] = {
    "Flux (kohya)": (
        tensors("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight"),
        "made for Flux",
    ),
    "Flux (diffusers)": (
        tensors("transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"),
        "made for Flux",
    ),
    "SD 3": (tensors("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight"), "ion 3"),
    "Wan": (tensors("diffusion_model.blocks.0.self_attn.q.lora_A.weight"), "made for Wan"),
    "Lumina": (tensors("diffusion_model.layers.0.attention.qkv.lora_A.weight"), "for Lumina"),
    "AnimateDiff": (
        tensors("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.lora_A.weight"),
        "made for AnimateDiff",
    ),
    "SDXL by its second text encoder": (
        tensors("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"),
        "made for SDXL",
    ),
    "SDXL by depth": (
        tensors("unet.down_blocks.2.attentions.0.transformer_blocks.7.attn1.to_k.lora_A.weight"),
        "made for SDXL",
    ),
    "SDXL by width": (tensors(f"{ATTN2}.lora_down.weight", shape=(4, 2048)), "made for SDXL"),
    "SD 2 by width": (tensors(f"{ATTN2}.lora_down.weight", shape=(4, 1024)), "Diffusion 2 (it"),
    "SD 2 by width, old diffusers": (
        tensors(
            f"unet.{TO_K.name[5:].replace('to_k', 'processor.to_k_lora')}.down.weight",
            shape=(4, 1024),
        ),
        "made for Stable Diffusion 2",
    ),
    "SD 2 by its text encoder": (
        tensors(
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            shape=(4, 1024),
        ),
        "made for Stable Diffusion 2",
    ),
    "inpainting": (
        tensors("lora_unet_conv_in.lora_down.weight", shape=(4, 9, 3, 3)),
        "made for an inpainting model",
    ),
    "textual inversion": (tensors("emb_params", shape=(2, 768)), "a textual inversion"),
    "textual inversion (diffusers)": (tensors("<cat-toy>", shape=(1, 768)), "textual inversion"),
    "whole model": (tensors("model.diffusion_model.out.2.weight"), "a whole model"),
    "ControlNet": (tensors("control_model.input_blocks.0.0.weight"), "a ControlNet"),
    "Control-LoRA": (tensors("lora_controlnet", "input_blocks.0.0.up"), "a Control-LoRA"),
    "IP-Adapter": (tensors("ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
    "IP-Adapter's FaceID": (tensors("0.to_q_lora.down.weight"), "an IP-Adapter"),
    "what to do with an IP-Adapter": (
        tensors("image_proj.norm.weight"),
        "load it beside the merge",
    ),
    "what to do with a motion LoRA": (
        tensors("mid_block.motion_modules.0.temporal_transformer.proj_in.lora_A.weight"),
        "can be merged here; load it beside the merge",
    ),
    "ControlNet-LLLite": (tensors("lllite_unet_input_blocks_4_1.down.0.weight"), "LLLite"),
    "T2I-Adapter": (tensors("adapter.body.0.block1.weight"), "a T2I-Adapter"),
    "VAE": (tensors("decoder.up.0.block.0.conv1.weight"), "a VAE"),
    "a UNet in ComfyUI's layout": (
        tensors("diffusion_model.input_blocks.0.0.weight"),
        "is a whole model",
    ),
    "two textual inversions": (
        tensors("string_to_param.*", "<cat>", shape=(1, 768)),
        "a textual inversion",
    ),
    "SD 3 by its third text encoder": (
        tensors("lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight"),
        "Diffusion 3",
    ),
    "SDXL, ComfyUI's text encoder": (
        tensors("text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1.diff"),
        "made for SDXL",
    ),
    "Stable Cascade": (tensors("lora_prior_unet_down_blocks_0.lora_down.weight"), "Cascade"),
    "PixArt": (tensors("transformer.adaln_single.linear.lora_A.weight"), "PixArt"),
    "SDXL, LoHa": (tensors(f"{ATTN2}.hada_w1_b", shape=(4, 2048)), "made for SDXL"),
    "SD 2, LoKr": (
        tensors(f"{ATTN2}.lokr_w1", shape=(8, 8)) | tensors(f"{ATTN2}.lokr_w2", shape=(80, 128)),
        "Diffusion 2 (it",
    ),
    "SDXL, LoKr in factors": (
        tensors(f"{ATTN2}.lokr_w1_b", shape=(4, 16))
        | tensors(f"{ATTN2}.lokr_w2_b", shape=(4, 128)),
        "made for SDXL",
    ),
    "SD 2, full difference": (tensors(f"{ATTN2}.diff", shape=(640, 1024)), "Diffusion 2 (it"),
    "inpainting, original names": (
        tensors("diffusion_model.input_blocks.0.0.diff", shape=(320, 9, 3, 3)),
        "made for an inpainting model",
    ),
    "bare weights": (tensors("conv_in.weight", "conv_out.weight"), "is a whole model"),
    "cloneofsimo": (tensors("unet:0:up", "unet:0:down"), "cloneofsimo"),
}


@pytest.mark.parametrize("case", OTHER_FILES)
def test_other_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    content, message = OTHER_FILES[case]
    assert message in refusal(saved(tmp_path / "other.safetensors", content))


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """The good file with tensors replaced, by role; None takes one away."""
    keys = {"down": DOWN, "up": UP, "alpha": ALPHA}
    new = GOOD | {keys[role]: value for role, value in changes.items() if value is not None}
    gone = {keys[role] for role, value in changes.items() if value is None}
    return {key: value for key, value in new.items() if key not in gone}


NAN = torch.full((4, 128), float("nan"))
# Incomplete LoRAs, and a part of the message.
BROKEN: dict[str, tuple[dict[str, Tensor], str]] = {
    "no up": (changed(up=None), f"layer {TO_K.name} has down but no up"),
    "no down": (changed(down=None), f"layer {TO_K.name} has up but no down"),
    "alpha alone": (changed(up=None, down=None), "changes nothing"),
    "ranks differ": (
        changed(down=torch.ones(8, 128)),
        f"layer {TO_K.name} has up (64, 4) but down (8, 128)",
    ),
    "rank bomb": (
        changed(down=torch.ones(2000, 128), up=torch.ones(64, 2000)),
        "same rank, at most 1280",
    ),
    "input too wide": (changed(down=torch.ones(4, 129)), "has down (4, 129)"),
    "output too wide": (changed(up=torch.ones(65, 4)), "has up (65, 4)"),
    "whole numbers": (changed(up=torch.ones(64, 4, dtype=torch.int8)), "of type I8"),
    "one dimension": (changed(up=torch.ones(64)), "has up (64,)"),
    "alpha a vector": (changed(alpha=torch.ones(4)), "has alpha (4,)"),
    "NaN": (changed(down=NAN), f"layer {TO_K.name} has values that are not finite"),
    "infinity": (changed(up=torch.full((64, 4), float("inf"))), "not finite"),
    "NaN alpha": (changed(alpha=torch.tensor(float("nan"))), "not finite"),
    "untrained": (changed(up=torch.zeros(64, 4)), "changes nothing"),
    "flattened kernel": (
        kohya({CONV: factors(CONV)}, {})
        | {f"{CONV.kohya}.lora_down.weight": torch.ones(4, 64 * 9)},
        f"layer {CONV.name} has down (4, 576)",
    ),
    "kernel for a pointwise layer": (
        {f"{PROJ_IN.kohya}.lora_down.weight": torch.ones(4, 64, 3, 3)},
        f"layer {PROJ_IN.name} has down (4, 64, 3, 3)",
    ),
    "mostly unknown layers": (
        GOOD | tensors(*(DOWN.replace("to_k", f"to_k{n}") for n in range(3))),
        f"such as {DOWN.replace('to_k', 'to_k0')}, the nearest is {DOWN}",
    ),
    "layer in two spellings": (
        GOOD | {f"{TO_K.name}.lora_A.weight": GOOD[DOWN].clone()},
        "has a layer twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_loras(tmp_path: Path, case: str) -> None:
    content, message = BROKEN[case]
    assert message in refusal(saved(tmp_path / "bad.safetensors", content))


def test_harmless_buffers_are_let_pass(tmp_path: Path) -> None:
    buffer = {"text_encoder.text_model.embeddings.position_ids": torch.arange(77)[None]}
    assert list(read(saved(tmp_path / "a.safetensors", GOOD | buffer)).layers) == [TO_K.name]


def test_the_user_s_name_for_the_file_is_the_one_in_the_sentence(tmp_path: Path) -> None:
    path = raw(tmp_path / "upload-17", {"__metadata__": {}})
    with pytest.raises(MergeError, match=r"^cat\.safetensors has no tensors"):
        read(path, name="cat.safetensors")


def test_names_of_unreadable_bytes_can_be_shown(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", GOOD)
    assert read(path, name="caf\udce9.safetensors").name == "caf?"


def test_metadata_is_not_parsed_as_anything_but_text(tmp_path: Path) -> None:
    header = {"ss_tag_frequency": json.dumps({"a": {"<script>": 1}})}
    assert read(saved(tmp_path / "a.safetensors", GOOD, header)).trigger == "<script>"
