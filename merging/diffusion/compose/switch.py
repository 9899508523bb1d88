"""LoRA Switch (arXiv:2402.16843): one LoRA at a time, the next one after every few steps.

At step s, counted from 0, LoRA ⌊s / τ⌋ mod N is in the model. The paper's τ is 5, of 100 or 200
steps. With fewer steps it is smaller, so that every LoRA has at least two turns.
"""

from __future__ import annotations

from torch import Tensor

from merging.diffusion.compose.composer import Moment, Variants

PERIOD = 5  # steps, at most
TURNS = 2  # of every LoRA, at least


class Switch(Variants):
    """One pass, with the LoRA whose turn it is."""

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """That LoRA's prediction."""
        turn = turn_at(moment.step, self.scene.steps, len(self.loras))
        return self.loras[turn].noise(latents, moment.time)


def turn_at(step: int, steps: int, count: int) -> int:
    """The LoRA of ``count`` whose turn it is at a step of ``steps``."""
    period = min(PERIOD, max(1, steps // (TURNS * count)))
    return step // period % count
