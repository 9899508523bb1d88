"""Checkpoints in one file, with the names of the original code, as A1111 and ComfyUI use them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors import SafetensorError, safe_open

from merging.diffusion.loading.sd15_config import SD15_UNET, write_sd15_config
from merging.diffusion.quiet_loading import quiet_loading
from merging.errors import MergeError

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"
TEXT_KEY = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
# Beginnings of keys, and what a file with them is.
OTHERS = (
    ("conditioner.", "SDXL"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("v_pred", "a model that predicts v, not noise"),
)
PARTS = {"cond_stage_model.": "text encoder", "first_stage_model.": "autoencoder"}
CHANNELS = {9: "an inpainting model", 8: "an InstructPix2Pix model"}
NEEDED = (
    "a base in one file is a .safetensors checkpoint of Stable Diffusion 1.x with all its parts"
)


def load_single_file(path: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline of a checkpoint, without network; MergeError for other files.

    The file has no configuration: that of Stable Diffusion 1.5 lies with the program.
    """
    _check(path)
    with tempfile.TemporaryDirectory() as folder, quiet_loading():
        config = Path(folder) / "config"
        write_sd15_config(config)
        try:
            return StableDiffusionPipeline.from_single_file(
                str(path), config=str(config), local_files_only=True, torch_dtype=dtype
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise MergeError(f"{path.name} cannot be loaded as a base: {reason}") from error


def _check(path: Path) -> None:
    """MergeError, by the file's header, for all that cannot be a base."""
    try:
        with safe_open(path, "pt") as stream:
            keys = list(stream.keys())
            shapes = {k: stream.get_slice(k).get_shape() for k in (FIRST, TEXT_KEY) if k in keys}
    except (SafetensorError, OSError) as error:
        raise MergeError(f"{path.name} is no safetensors file; {NEEDED}.") from error
    if reason := _refusal(keys, shapes):
        raise MergeError(f"{path.name} {reason}; {NEEDED}.")


def _refusal(keys: list[str], shapes: dict[str, list[int]]) -> str:
    """Why a file cannot be a base, "" if it can."""
    if other := next((what for start, what in OTHERS if _has(keys, start)), ""):
        return f"is {other}"
    if FIRST not in shapes or shapes[FIRST][0] != SD15_UNET["block_out_channels"][0]:
        return "has no UNet of Stable Diffusion 1.x"
    if (channels := shapes[FIRST][1]) != 4:
        return f"is {CHANNELS.get(channels, f'a model of {channels} channels')}"
    if missing := [part for start, part in PARTS.items() if not _has(keys, start)]:
        return f"has no {missing[0]}"
    return ""


def _has(keys: list[str], start: str) -> bool:
    return any(key.startswith(start) for key in keys)
