"""The untrained models of the embedded base, and SD 1.5's noise schedule."""

from __future__ import annotations

from diffusers import DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from assets.build import tokenizer

LEVELS = 3
LATENTS = 8  # channels of the autoencoder's latents


def text_encoder() -> CLIPTextModel:
    """An untrained text encoder, 4 layers of width 128."""
    config = CLIPTextConfig(
        vocab_size=tokenizer.TOKENS,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=128,
        max_position_embeddings=tokenizer.LENGTH,
        bos_token_id=tokenizer.TOKENS - 2,
        eos_token_id=tokenizer.TOKENS - 1,
        pad_token_id=tokenizer.TOKENS - 1,
    )
    return CLIPTextModel(config)


def unet() -> UNet2DConditionModel:
    """An untrained UNet, 64-128-128, with cross-attention at every level, 4 heads."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * LEVELS,
        up_block_types=("CrossAttnUpBlock2D",) * LEVELS,
    )


def scheduler() -> PNDMScheduler:
    """The sampling schedule, as SD 1.5 ships it."""
    made = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    made.register_to_config(clip_sample=False)  # for whoever makes another scheduler from it
    return made


def noise_schedule() -> DDPMScheduler:
    """The same schedule, for adding noise."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def tokens(cutter: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(n, 32) token numbers, padded."""
    return cutter(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def signal_to_noise(schedule: DDPMScheduler) -> Tensor:
    """ᾱ / (1 − ᾱ) for each of the 1,000 times."""
    return schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
