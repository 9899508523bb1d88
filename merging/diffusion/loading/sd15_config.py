"""The architecture of Stable Diffusion 1.x and its tokenizer: what a single file does not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig, CLIPTokenizer

from merging.io.assets import ASSETS

# stable-diffusion-v1-5/stable-diffusion-v1-5, the config.json of each part
SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SD15_TEXT_ENCODER = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD15_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# openai/CLIP, clip/bpe_simple_vocab_16e6.txt (MIT), the 48894 lines that its tokenizer uses
MERGES = ASSETS / "clip-tokenizer" / "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer: every byte, every byte at a word's end, every merge, then start and end."""
    merges = [tuple(line.split()) for line in MERGES.read_text(encoding="utf-8").splitlines()]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=SD15_TEXT_ENCODER["max_position_embeddings"],
    )


def _byte_letters() -> list[str]:
    """GPT-2's letter for every byte: itself where it is visible, else one from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(len(hidden))]


def write_sd15_config(folder: Path) -> None:
    """Write the configuration of a Stable Diffusion 1.5 pipeline, in diffusers layout."""
    parts = {
        "unet": {"_class_name": "UNet2DConditionModel", **SD15_UNET},
        "vae": {"_class_name": "AutoencoderKL", **SD15_VAE},
        "scheduler": {"_class_name": "PNDMScheduler", "skip_prk_steps": True, **SD15_SCHEDULE},
    }
    for part, config in parts.items():
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_text(json.dumps(config))
    CLIPTextConfig(**SD15_TEXT_ENCODER).save_pretrained(folder / "text_encoder")
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    index = {part: ["diffusers", config["_class_name"]] for part, config in parts.items()} | {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        **{part: [None, None] for part in ("safety_checker", "feature_extractor")},
    }
    top = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(top | index))
