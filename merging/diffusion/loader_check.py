"""Loads a written file with diffusers and compares it; the base is left unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from peft.tuners.lora import LoraLayer as LoadedLayer

from merging.adapter import Adapter, LoraLayer
from merging.diffusion.base import Base, canonical
from merging.diffusion.quiet_loading import quiet_loading
from merging.formats import Written
from merging.formats.compare import compare_adapters

NAME = "check"


def check_with_diffusers(base: Base, path: Path, meant: Adapter, written: Written) -> Written:
    """``written`` with the error of the adapter that diffusers loads, compared with ``meant``.

    Files in other key formats are not loaded. A file that differs is removed; MergeError names the
    layer.
    """
    if "diffusers" not in written.programs:
        return written
    try:
        loaded = load_with_diffusers(base, path)
        error, _ = compare_adapters(loaded, meant, path.name, "diffusers loaded it")
    except Exception:
        path.unlink(missing_ok=True)
        raise
    return replace(written, loaded=error)


def load_with_diffusers(base: Base, path: Path) -> Adapter:
    """The changes that ``load_lora_weights`` makes to this base, with all scales folded in."""
    pipeline = base.pipeline
    try:
        with quiet_loading():
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=NAME)
        return Adapter(path.stem, dict(_added(base)), base.table.name)
    finally:
        pipeline.unload_lora_weights()


def _added(base: Base) -> Iterator[tuple[str, LoraLayer]]:
    """Canonical name and factors of every layer that the loader has changed."""
    parts = {"text_encoder": base.pipeline.text_encoder, "unet": base.pipeline.unet}
    for part, model in parts.items():
        for name, module in model.named_modules():
            if isinstance(module, LoadedLayer) and NAME in module.lora_A:
                down = module.lora_A[NAME].weight.detach().flatten(1).cpu()
                up = module.lora_B[NAME].weight.detach().flatten(1).cpu()
                alpha = module.scaling[NAME] * down.shape[0]
                yield canonical(part, name), LoraLayer(up, down, alpha)
