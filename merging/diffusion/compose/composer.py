"""What compositions are made of: the parts of a drawing that each may do in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from merging.diffusion.compose.scene import Scene, Weighted, summed_deltas, summed_shifts


@dataclass(frozen=True)
class Moment:
    """One step of the sampler."""

    step: int  # from 0
    time: Tensor  # the timestep, from 999 down to 0


class Composer(ABC):
    """One way to compose; ``noise`` is what a composition has to define."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if the scene lacks what the composition needs."""
        self.scene = scene

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Everything is drawn inside; the model is as before afterwards."""
        yield

    @property
    def rounds(self) -> int:
        """How often it goes from noise to a picture, at most; known inside ``acting``."""
        return 1

    def begin(self, latents: Tensor) -> Tensor:
        """The latents to start from, given those of noise; the sampler has its steps by now."""
        return latents

    def move(self, latents: Tensor, moment: Moment) -> Tensor:
        """The latents, unscaled, from which the step starts; most compositions leave them."""
        return latents

    @abstractmethod
    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The prediction for latents (pictures, channels, height, width), guided, same shape.

        The latents are scaled as the model takes them.
        """

    def after_step(self) -> None:  # noqa: B027 -- most compositions have nothing to do here
        """Called after every step."""

    def finish(self, latents: Tensor) -> Tensor | None:
        """The latents of the pictures at the end of a round; None for one more, from the noise."""
        return latents

    def maps(self, phrases: Sequence[str]) -> Tensor | None:
        """Where each phrase is, (pictures, phrases, height, width); None: as attention shows."""
        return None


class Variant:
    """The base with these LoRAs, and the text states that its text encoder gives the prompts."""

    def __init__(self, scene: Scene, adapters: Sequence[Weighted]) -> None:
        """Raises MergeError where the base lacks a layer."""
        base = self.base = scene.base
        self.scene = scene
        place = base.device, base.dtype
        deltas, shifts = summed_deltas(base, adapters), summed_shifts(base, adapters)
        self.deltas = {layer: delta.to(*place) for layer, delta in deltas.items()}
        self.shifts = {module: shift.to(*place) for module, shift in shifts.items()}
        with self.in_use():
            self.states = scene.states()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model is this variant meanwhile, also for hooks that are there already."""
        base = self.base
        with base.changed(self.shifts, first=True), base.changed(self.deltas, first=True):
            yield

    def predict(self, latents: Tensor, time: Tensor) -> Tensor:
        """Predicted noise of the model's batch, unguided."""
        with self.in_use():
            return self.scene.predict(latents, time, self.states)

    def predict_prompts(self, latents: Tensor, time: Tensor) -> Tensor:
        """Predicted noise for the prompts alone, of the latents' shape."""
        states = self.states[-len(self.scene.pairs) :]
        with self.in_use():
            return self.base.pipeline.unet(
                latents, time, encoder_hidden_states=states, return_dict=False
            )[0]

    def noise(self, latents: Tensor, time: Tensor) -> Tensor:
        """Predicted noise, guided: (pictures, channels, height, width)."""
        return self.scene.guide(self.predict(latents, time))


class Variants(Composer):
    """A composition of the predictions of each LoRA alone, one pass after the other."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The text states of every LoRA are made once."""
        self.loras = [Variant(self.scene, [pair]) for pair in self.scene.adapters]
        yield

    def predictions(self, latents: Tensor, moment: Moment) -> list[Tensor]:
        """Every LoRA's prediction, guided."""
        return [lora.noise(latents, moment.time) for lora in self.loras]
