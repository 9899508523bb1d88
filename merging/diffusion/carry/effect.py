"""What a LoRA adds to a base model on given samples: layer by layer, and to the predicted noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merging.adapter import VectorDelta
from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import Sample, batches
from merging.diffusion.layer_ops import Layer, output_change, output_rows
from merging.diffusion.lockstep import counted_rows
from merging.diffusion.tokens import text_ids
from merging.linalg.delta import Delta
from merging.runtime.progress import Stop, check


@dataclass(frozen=True)
class Effect:
    """What is added, on the CPU."""

    layers: Mapping[str, Tensor]  # layer → X Δᵀ of the rows that count (rows, out)
    noise: Tensor  # ε with the LoRA minus ε without it (samples, channels, height, width)


@dataclass(frozen=True)
class Misses:
    """‖added − wanted‖ / ‖wanted‖ of two effects on the same samples."""

    layers: Mapping[str, float]
    noise: float


def misses(wanted: Effect, added: Effect) -> Misses:
    """How far one effect misses another; 1 is as far as adding nothing."""
    layers = {name: _miss(rows, added.layers[name]) for name, rows in wanted.layers.items()}
    return Misses(layers, _miss(wanted.noise, added.noise))


def _miss(wanted: Tensor, added: Tensor) -> float:
    size = wanted.double().norm().item()
    return (added.double() - wanted.double()).norm().item() / size if size else 0.0


@torch.no_grad()
def effect(
    base: Base,
    samples: Sequence[Sample],
    deltas: Mapping[str, Delta],
    shifts: Mapping[str, VectorDelta],
    rows: int | None,
    stop: Stop,
) -> Effect:
    """Run the samples, which need latents, without the LoRA and with it."""
    layers: dict[str, list[Tensor]] = {}
    noises = []
    for batch in batches(base, samples, streams=1):
        check(stop)
        without = _noise(base, batch)
        with base.changed(shifts), _recorded(base, batch, deltas, rows, layers):
            noises.append((_noise(base, batch) - without).float().cpu())
    return Effect({name: torch.cat(parts) for name, parts in layers.items()}, torch.cat(noises))


def _noise(base: Base, batch: Sequence[Sample]) -> Tensor:
    """ε of the model as it is now."""
    states = base.pipeline.text_encoder(text_ids(base, [sample.prompt for sample in batch]))[0]
    latents = torch.stack([sample.latent for sample in batch if sample.latent is not None])
    times = torch.tensor([sample.timestep for sample in batch], device=base.device)
    return base.pipeline.unet(
        latents.to(base.device, base.dtype), times, encoder_hidden_states=states
    ).sample


@contextmanager
def _recorded(
    base: Base,
    batch: Sequence[Sample],
    deltas: Mapping[str, Delta],
    rows: int | None,
    layers: dict[str, list[Tensor]],
) -> Iterator[None]:
    """The base with these changes; what they add is appended to ``layers``."""

    def hook(name: str, delta: Delta) -> Callable[[Layer, Any, Tensor], Tensor]:
        def add(layer: Layer, inputs: Any, output: Tensor) -> Tensor:
            change = output_change(layer, inputs[0], delta)
            added = output_rows(layer, change)
            counted = counted_rows(name, batch, added.shape[1], rows)
            layers.setdefault(name, []).append(added[counted.to(added.device)].float().cpu())
            return output + change

        return add

    with ExitStack() as undo:
        for name, delta in deltas.items():
            change = hook(name, delta.to(base.device, base.dtype))
            undo.callback(base.layers[name].register_forward_hook(change).remove)
        yield
