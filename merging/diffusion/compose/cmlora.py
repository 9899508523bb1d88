"""CMLoRA (arXiv:2502.04923): Composite with a dominant LoRA and reused features of the others.

ε = mean of wᵢ εᵢ: w of the dominant LoRA is c times that of the others, c = N − ½, and the mean
weight is 1. At a refresh step all LoRAs run anew and another becomes dominant; between two of them,
those that are not dominant reuse the features of their deeper blocks, as DeepCache does
(arXiv:2312.00858). Refresh steps are 2 steps apart in the first 37.5 % and the last 12.5 % of the
steps, and 3 in between.

Who becomes dominant: while the latents have high frequencies, those LoRAs in turn that change high
frequencies most; afterwards the one that changes them least. The paper takes the LoRAs' categories
(background, style, …) from its testbed's files, which others do not have; here the first step's
predictions tell. It measures beyond a radius of 80, where latents of 64 × 64 have nothing; here
"high" is the outer 40 % of the radius, and the threshold of 0.4 is relative to the mean over all
radii, which is 1 for pure noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from merging.diffusion.compose.composer import Moment, Variant, Variants

EARLY, LATE = 0.375, 0.875  # shares of the steps
OUTER = 0.6  # of the largest radius: high frequencies are beyond
THRESHOLD = 0.4

Features = dict[nn.Module, Any]  # block → its output


class CmLora(Variants):
    """One pass per LoRA, most of them through few blocks."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Nothing is reused before the first step."""
        self.features: list[Features] = [{} for _ in self.scene.adapters]
        self.order = list(range(len(self.scene.adapters)))  # by falling frequency
        self.refreshes = refresh_steps(self.scene.steps)
        self.turn = 0
        with super().acting():
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The weighted mean of the LoRAs' predictions."""
        refreshing = moment.step in self.refreshes
        if refreshing and moment.step:
            self.turn += 1
        dominant = self._dominant(latents)
        noises = [
            self._predict(i, latents, moment, anew=refreshing or i == dominant)
            for i in range(len(self.loras))
        ]
        if moment.step == 0:
            self.order = by_frequency(noises)
        weights = dominant_weights(len(noises), dominant)
        pairs = zip(weights, noises, strict=True)
        return torch.stack([weight * noise for weight, noise in pairs]).mean(dim=0)

    def _dominant(self, latents: Tensor) -> int:
        *high, low = self.order
        return high[self.turn % len(high)] if is_noisy(latents) else low

    def _predict(self, index: int, latents: Tensor, moment: Moment, anew: bool) -> Tensor:
        """One LoRA's prediction, by all blocks, or by the outer ones."""
        features = self.features[index]
        if anew:
            features.clear()
        with reusing_blocks(self.loras[index], features):
            return self.loras[index].noise(latents, moment.time)


def dominant_weights(count: int, dominant: int) -> list[float]:
    """wᵢ: their sum is ``count``."""
    factor = count - 0.5
    low = count / (factor + count - 1)
    return [factor * low if i == dominant else low for i in range(count)]


def refresh_steps(steps: int) -> set[int]:
    """The steps at which all LoRAs run anew."""
    refreshed, step = set(), 0
    while step < steps:
        refreshed.add(step)
        step += 3 if EARLY <= step / steps < LATE else 2
    return refreshed


def is_noisy(latents: Tensor) -> bool:
    """Whether high frequencies of the channels' mean are above the threshold, on average."""
    return high_share(latents.mean(dim=1)).mean().item() >= THRESHOLD


def high_share(maps: Tensor) -> Tensor:
    """Mean amplitude of the high frequencies of (samples, height, width), relative to all."""
    spectrum = torch.fft.fft2(maps.float(), norm="ortho").abs()
    rows, columns = (torch.fft.fftfreq(side).abs() * 2 for side in maps.shape[1:])
    radius = (rows[:, None] ** 2 + columns**2).sqrt() / 2**0.5
    high = (radius >= OUTER).to(maps.device)
    return spectrum[:, high].mean(dim=1) / spectrum.mean(dim=(1, 2)).clamp_min(1e-12)


def by_frequency(noises: Sequence[Tensor]) -> list[int]:
    """LoRAs by how much of their difference from the mean is of high frequency, most first."""
    mean = torch.stack(list(noises)).mean(dim=0)
    shares = [high_share((noise - mean).mean(dim=1)).mean().item() for noise in noises]
    return sorted(range(len(noises)), key=lambda i: -shares[i])


@contextmanager
def reusing_blocks(lora: Variant, features: Features) -> Iterator[None]:
    """The inner blocks give what ``features`` has; what it lacks is computed and put there."""
    unet = lora.base.pipeline.unet
    inner = [*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]]
    with ExitStack() as undo:
        for block in inner:
            if block in features:
                block.forward = lambda *_, known=features[block], **__: known
                undo.callback(block.__dict__.pop, "forward")
            else:
                undo.callback(block.register_forward_hook(_keeper(features)).remove)
        yield


def _keeper(features: Features) -> Any:
    def keep(block: nn.Module, _inputs: tuple, output: Any) -> None:
        features[block] = output

    return keep
