"""Load a base model's pipeline: a folder or a Hub id in diffusers layout, or a single file.

What is on the disk is taken first, so a model that was downloaded once needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub.errors import HfHubHTTPError

from merging.base_models import base_model
from merging.diffusion.loading.missing_base import why_missing
from merging.diffusion.loading.single_file import load_single_file
from merging.diffusion.quiet_loading import quiet_loading
from merging.errors import MergeError

SD2_WIDTH = 1024  # of the text features in Stable Diffusion 2; 768 in 1.x
CHANNELS = {9: "an inpainting model", 8: "an InstructPix2Pix model", 7: "an upscaler"}
NOT_SD1 = "only models of Stable Diffusion 1.x that draw from text alone can be a base here"


def load_pipeline(name: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline of a base; MergeError, with the reason, if there is none that can be used."""
    source = base_model(name).source
    if Path(source).is_file():
        pipeline = load_single_file(Path(source), dtype)
    else:
        pipeline = _load_folder(name, dtype)
    _check_family(name, pipeline)
    return pipeline


def _load_folder(name: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline of a folder or Hub id, with the first way to load it that works."""
    model = base_model(name)
    errors = []
    for options in _ways(model.source):
        try:
            with quiet_loading():
                return StableDiffusionPipeline.from_pretrained(
                    model.source,
                    revision=model.revision,
                    dtype=dtype,
                    use_safetensors=True,
                    **options,
                )
        except (HfHubHTTPError, OSError, ValueError) as error:
            errors.append(error)
    raise MergeError(why_missing(model, errors[-2]))  # of the last place, without a variant


def _ways(source: str) -> Iterator[dict[str, Any]]:
    """The disk before the network; files of fp16 alone where there are no others."""
    for local in (True,) if Path(source).is_dir() else (True, False):
        yield {"local_files_only": local}
        yield {"local_files_only": local, "variant": "fp16"}


def _check_family(name: str, pipeline: StableDiffusionPipeline) -> None:
    """Only epsilon-predicting models of four channels and one text encoder are SD 1.x."""
    unet, reason = pipeline.unet.config, ""
    if unet.in_channels != pipeline.vae.config.latent_channels:
        reason = f"is {CHANNELS.get(unet.in_channels, f'a model of {unet.in_channels} channels')}"
    elif pipeline.scheduler.config.prediction_type != "epsilon":
        reason = f"predicts {pipeline.scheduler.config.prediction_type}, not noise"
    elif unet.cross_attention_dim == SD2_WIDTH:
        reason = "is Stable Diffusion 2"
    if reason:
        raise MergeError(f"{name} {reason}; {NOT_SD1}.")
