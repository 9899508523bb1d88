"""Write the pipeline of the last checkpoints, and a sheet of what it draws, to be looked at."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizer

from assets.build import models
from assets.build.vector import autoencoder, base, scenes, settings

PROMPTS = (
    "a photo of a cat",
    "a photo of a small dog on a red background",
    "a photo of an owl in the snow",
    "a photo of a rocket on a starry night",
    "a photo of a cake on a wooden table",
    "a photo of a cat and a pizza",
    "a photo of a fox to the left of a house on the grass",
    "a photo of a qfz frog and a big turtle by the sea",
    "a photo of a crown on a panda",
    "a photo of a guitar behind a lion in a room",
    "a photo of a car, a tree and a bus",
    "a photo of an apple, a moon and a gift on a pink background",
)
SEEDS = (0, 1, 2)
STEPS, GUIDANCE = 20, 3.0


def pipeline(work: Path) -> StableDiffusionPipeline:
    """The trained parts in diffusers layout, float32."""
    model = base.trained(work)
    return StableDiffusionPipeline(
        vae=autoencoder.trained(work),
        text_encoder=model.text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer"),
        unet=model.unet,
        scheduler=models.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sheet(parts: StableDiffusionPipeline) -> Image.Image:
    """One row a prompt, one column a seed."""
    made = Image.new("RGB", (scenes.SIZE * len(SEEDS), scenes.SIZE * len(PROMPTS)))
    parts.set_progress_bar_config(disable=True)
    for column, seed in enumerate(SEEDS):
        noise = [torch.Generator().manual_seed(seed) for _ in PROMPTS]
        drawn = parts(
            list(PROMPTS), generator=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE
        )
        for row, picture in enumerate(drawn.images):
            made.paste(picture, (column * scenes.SIZE, row * scenes.SIZE))
    return made


def save_half(parts: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision, so that it loads in single unless told otherwise.

    diffusers loads in single whatever the file holds; transformers loads what config.json names,
    so that names single. AutoencoderTiny writes a setting that it warns of when it reads it.
    """
    parts.to(dtype=torch.float16).save_pretrained(folder, max_shard_size="8MB")
    _edit(folder / "text_encoder" / "config.json", dtype="float32")
    _edit(folder / "vae" / "config.json", block_out_channels=None)


def _edit(file: Path, **settings: str | None) -> None:
    """Change settings of a JSON file; None takes one out."""
    content = json.loads(file.read_text("utf-8")) | settings
    kept = {name: value for name, value in content.items() if settings.get(name, "") is not None}
    file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", "utf-8")


def main() -> None:
    """Write what is in --work to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("build-work/base-128"))
    given = parser.parse_args()
    parts = pipeline(given.work)
    given.out.mkdir(parents=True, exist_ok=True)
    sheet(parts.to(given.device)).save(given.out / "sheet.png")
    save_half(parts.to("cpu"), given.out)


if __name__ == "__main__":
    main()
