"""The base model: a Stable Diffusion 1.x pipeline, embedded, from a folder or from the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import nn

from merging.adapter import VectorDelta
from merging.diffusion.layer_ops import Change, Layer, Module, output_change
from merging.diffusion.loading.pipeline import load_pipeline
from merging.errors import MergeError
from merging.formats.layer_tables import LayerTable
from merging.formats.vector_deltas import vector_lengths
from merging.io.png import parse_size
from merging.options import Precision
from merging.runtime.progress import Stop, check

MOST_SIDES = 2  # largest side of a picture, in native sides of the base
FINGERS = 16  # values of a layer that a fingerprint looks at
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Base:
    """A loaded pipeline, its layers by canonical name, and where it runs."""

    name: str
    pipeline: StableDiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    # textual inversions in use: word, in small letters → the token ids of its vectors
    embedding_ids: Mapping[str, list[int]] = field(default_factory=dict)
    precision: Precision = "auto"  # the option; ``dtype`` is the type that it gave

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Canonical name → module, for every layer and normalisation of text encoder and UNet."""
        parts = {"text_encoder": self.pipeline.text_encoder, "unet": self.pipeline.unet}
        return {
            canonical(part, name): module
            for part, model in parts.items()
            for name, module in model.named_modules()
            if isinstance(module, Module)
        }

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Those of them that are a Linear or a Conv2d."""
        return {name: layer for name, layer in self.modules.items() if isinstance(layer, Layer)}

    @cached_property
    def table(self) -> LayerTable:
        """Names and sizes, for the readers."""
        shapes = {name: tuple(layer.weight.shape) for name, layer in self.layers.items()}
        vectors = {
            f"{name}.{parameter}": len(value)
            for name, module in self.modules.items()
            for parameter, value in module.named_parameters(recurse=False)
            if value.ndim == 1
        }
        return LayerTable(self.name, shapes, vectors)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 that tells weights apart, wherever they lie: of a few of every layer, as fp16."""
        digest = hashlib.sha256()
        for name, layer in self.layers.items():
            values = layer.weight.detach().flatten()
            positions = (
                torch.arange(FINGERS, device=values.device) * (len(values) - 1) // (FINGERS - 1)
            )
            digest.update(
                name.encode() + values[positions].to("cpu", torch.float16).numpy().tobytes()
            )
        return digest.hexdigest()

    def weight(self, name: str) -> torch.Tensor | None:
        """A layer's weight or a vector ("module.bias"), for readers of adapters that depend on it.

        None if the base has none.
        """
        if name in self.layers:
            return self.layers[name].weight
        module, _, parameter = name.rpartition(".")
        return getattr(self.modules.get(module), parameter, None)

    def check_shifts(self, shifts: Mapping[str, VectorDelta]) -> None:
        """MergeError where the base lacks a vector, or has it in another size."""
        for parameter, size in vector_lengths(shifts).items():
            if self.table.vectors.get(parameter) != size:
                raise MergeError(
                    f"{parameter} ({size} numbers) does not fit the base {self.name}; choose the "
                    "base that the LoRA was trained for."
                )

    @contextmanager
    def parked(self, *parts: str) -> Iterator[None]:
        """Move these parts of the pipeline to main memory meanwhile; does nothing on a CPU."""
        models = [getattr(self.pipeline, part) for part in parts]
        models = [model for model in models if isinstance(model, nn.Module)]
        if self.device.type == "cpu":
            models = []
        try:
            for model in models:
                model.to("cpu")
            yield
        finally:
            for model in models:
                model.to(self.device)

    @contextmanager
    def stopping_at_layers(self, stop: Stop) -> Iterator[None]:
        """Check ``stop`` before every layer of the model; raises Cancelled."""
        handles = [
            layer.register_forward_pre_hook(lambda *_: check(stop))
            for layer in self.layers.values()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def changed(self, changes: Mapping[str, Change], *, first: bool = False) -> Iterator[None]:
        """The model with these changes added; untouched afterwards, even on error.

        With ``first``, hooks that are there already see the changed outputs.
        """
        handles = []
        try:
            for name, addition in changes.items():
                hook = _addition_hook(addition.to(self.device, self.dtype))
                handles.append(self.modules[name].register_forward_hook(hook, prepend=first))
            yield
        finally:
            for handle in handles:
                handle.remove()


def canonical(part: str, name: str) -> str:
    """Diffusers' key for a module; transformers 5 dropped CLIP's ``text_model.`` level."""
    if part == "text_encoder" and not name.startswith("text_model."):
        name = f"text_model.{name}"
    return f"{part}.{name}"


def load_base(name: str = "mini", device: str = "auto", precision: Precision = "auto") -> Base:
    """Load "mini", "sd15", a folder in diffusers layout, a .safetensors checkpoint, or a Hub id.

    Precision "auto" is float32 on a CPU, float16 elsewhere. Raises MergeError when it cannot be
    had, saying why.
    """
    where = pick_device(device)
    dtype = pick_dtype(where, precision)
    pipeline = load_pipeline(name, dtype).to(where)
    pipeline.set_progress_bar_config(disable=True)
    # PNDM's config lacks clip_sample, whose default in DDIM would clip the latents.
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return Base(name, pipeline, where, dtype, precision=precision)


@dataclass(frozen=True)
class BaseChoice:
    """What `load_base` takes: plain data, for a worker that loads the base model itself."""

    name: str
    device: str = "auto"
    precision: Precision = "auto"

    @cached_property
    def base(self) -> Base:
        """The base model, loaded when first asked for."""
        return load_base(self.name, self.device, self.precision)


def latent_side(base: Base) -> int:
    """Height and width of the latent in this base's native pictures."""
    return base.pipeline.unet.config.sample_size


def latent_size(base: Base, size: str = "") -> tuple[int, int]:
    """Height and width of the latent of pictures of WIDTHxHEIGHT, "" for the native size.

    MergeError for what the base cannot draw: its levels halve the latent again and again, and far
    from the size that it was trained at a base repeats itself.
    """
    native, factor = latent_side(base), base.pipeline.vae_scale_factor
    if not size.strip():
        return native, native
    width, height = parse_size(size)
    step = factor * 2 ** (len(base.pipeline.unet.config.block_out_channels) - 1)
    most = MOST_SIDES * native * factor
    if any(side % step or not step <= side <= most for side in (width, height)):
        raise MergeError(
            f"A picture of {size.strip()} cannot be drawn with the base {base.name}: each side has "
            f"to be a multiple of {step} pixels, at most {most}. Leave the size empty for the "
            "native one."
        )
    return height // factor, width // factor


def pick_device(device: str) -> torch.device:
    """The named device, or for "auto" the best one that is there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu" and torch.backends.mps.is_available():
            device = "mps"
    if device == "cuda" and not torch.cuda.is_available():
        raise MergeError("No CUDA device is visible; use --device cpu, or auto.")
    return torch.device(device)


def pick_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """The named type, or for "auto" the one that suits the device."""
    if precision == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if precision not in DTYPES:
        raise MergeError(f"The precision must be auto, {', '.join(DTYPES)}, not {precision!r}.")
    return DTYPES[precision]


def _addition_hook(addition: Change) -> Callable:
    def hook(module: Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output + output_change(module, inputs[0], addition)

    return hook
