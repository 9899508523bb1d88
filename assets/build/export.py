"""Write assets/mini-sd from the checkpoints: fp16 safetensors, no file of 10 MiB or more."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from assets.build import tokenizer, train_base, train_vae

ASSETS = Path(__file__).resolve().parents[1]


def pipeline(
    work: Path, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, vae: AutoencoderKL
) -> StableDiffusionPipeline:
    """The parts as one pipeline in diffusers layout."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer.build(work),
        unet=unet,
        scheduler=train_base.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def trained(work: Path) -> StableDiffusionPipeline:
    """The pipeline of the last checkpoints, float32."""
    text_encoder, unet = train_base.trained(work)
    return pipeline(work, text_encoder, unet, train_vae.trained(work))


def save_half(parts: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision, so that it loads in single unless told otherwise.

    diffusers loads in single whatever the file holds; transformers loads what config.json names,
    so that names single.
    """
    parts.to(dtype=torch.float16).save_pretrained(folder, max_shard_size="8MB")
    config = folder / "text_encoder" / "config.json"
    content = json.loads(config.read_text("utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")


def main() -> None:
    """Export what is in --work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    save_half(trained(parser.parse_args().work), ASSETS / "mini-sd")


if __name__ == "__main__":
    main()
