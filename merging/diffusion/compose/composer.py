"""What every composition has: the parts of the drawing that it may do in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from merging.diffusion.compose.scene import Scene


@dataclass(frozen=True)
class Moment:
    """One step of the sampler."""

    step: int  # from 0
    time: Tensor  # the timestep, from 999 down to 0


class Composer:
    """One way to compose; ``noise`` is what a composition has to define."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if the scene lacks what the composition needs."""
        self.scene = scene

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Everything is drawn inside; the model is as before afterwards."""
        yield

    def begin(self, latents: Tensor) -> Tensor:
        """The latents to start from, given those of noise; the sampler has its steps by now."""
        return latents

    def move(self, latents: Tensor, moment: Moment) -> Tensor:
        """The latents, unscaled, from which the step starts; most compositions leave them."""
        return latents

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The prediction for latents (pictures, channels, height, width), guided, same shape.

        The latents are scaled as the model takes them.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after every step."""

    def maps(self, phrases: Sequence[str]) -> Tensor | None:
        """Where each phrase is, (pictures, phrases, height, width); None: as attention shows."""
        return None
