"""All LoRAs at once: W = W₀ + Σ strengthᵢ · Δᵢ, what every program does that loads several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from merging.diffusion.compose.composer import Composer, Moment
from merging.diffusion.compose.scene import summed_deltas, summed_shifts


class Sum(Composer):
    """One pass with the sum of the LoRAs' changes."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The sum is in the model from the text encoder on."""
        base, adapters = self.scene.base, self.scene.adapters
        shifts = summed_shifts(base, adapters)
        with base.changed(summed_deltas(base, adapters)), base.changed(shifts):
            self.states = self.scene.states()
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """One prediction."""
        return self.scene.guide(self.scene.predict(latents, moment.time, self.states))
