"""The choice per layer by KL divergence (arXiv:2602.15539), made for an object and a style.

In every layer, LoRA i alone would turn the base's output y into yᵢ. The layer gets the LoRA with
the largest mean of KL(softmax(y) ‖ softmax(yᵢ)) over the rows, softmax over the channels; each
picture chooses for itself. The paper then moves the latents by CLIP and DINO scores of reference
pictures, which are not to be had here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.compose.composer import Composer, Moment
from merging.diffusion.compose.scene import Weighted, summed_deltas, summed_shifts
from merging.diffusion.layer_ops import Change, Module, output_change


class KlChoice(Composer):
    """One pass, in which every layer has the LoRA that changes it most."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Layers choose from the text encoder on."""
        base = self.scene.base
        loras = [_changes(base, pair) for pair in self.scene.adapters]
        with ExitStack() as undo:
            for name in dict.fromkeys(name for lora in loras for name in lora):
                hook = _choosing([lora.get(name, []) for lora in loras])
                undo.callback(base.modules[name].register_forward_hook(hook).remove)
            self.states = self.scene.states()
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """One prediction."""
        return self.scene.guide(self.scene.predict(latents, moment.time, self.states))


def _changes(base: Base, pair: Weighted) -> dict[str, list[Change]]:
    """Module → the changes of its weight and its vectors."""
    changes: dict[str, list[Change]] = {}
    for part in (summed_deltas(base, [pair]), summed_shifts(base, [pair])):
        for name, change in part.items():
            changes.setdefault(name, []).append(change.to(base.device, base.dtype))
    return changes


def _choosing(loras: Sequence[Sequence[Change]]) -> Callable:
    """A hook that adds the chosen LoRA's changes."""

    def hook(module: Module, inputs: tuple, output: Tensor) -> Tensor:
        moved = [_moved(module, inputs[0], output, changes) for changes in loras]
        return chosen(output, moved)

    return hook


def _moved(module: Module, x: Tensor, output: Tensor, changes: Sequence[Change]) -> Tensor:
    for change in changes:
        output = output + output_change(module, x, change)
    return output


def chosen(output: Tensor, moved: Sequence[Tensor]) -> Tensor:
    """For each sample, the one of ``moved`` that is furthest from ``output``; the first of equals.

    All are (samples, …, channels), or (samples, channels, height, width).
    """
    distances = torch.stack([divergence(output, other) for other in moved])  # (LoRAs, samples)
    choice = distances.argmax(dim=0)
    return torch.stack(list(moved))[choice, torch.arange(len(output), device=output.device)]


def divergence(output: Tensor, other: Tensor) -> Tensor:
    """Mean KL(softmax(output) ‖ softmax(other)) over the rows of each sample: (samples,)."""
    channels = 1 if output.ndim == 4 else -1
    log_p, log_q = (values.float().log_softmax(dim=channels) for values in (output, other))
    return (log_p.exp() * (log_p - log_q)).sum(dim=channels).flatten(1).mean(dim=1)
