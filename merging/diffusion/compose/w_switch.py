"""W-Switch (arXiv:2606.03792): LoRA Switch with turns as long as the LoRA's words weigh.

Step s goes to the LoRA that is furthest behind its share: the one with the largest
wᵢ · (s + 1) − (its steps so far). So turns alternate, and after all steps everyone has its share.
This rule is ours; the paper's own was not to be had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from merging.diffusion.compose.composer import Moment, Variants
from merging.diffusion.compose.word_weights import word_weights


class WeightedSwitch(Variants):
    """A pass for every LoRA that is due in one of the pictures."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The turns are known before the first step."""
        with super().acting():
            weights = word_weights(self.scene, self.loras).tolist()
            names, steps = self.scene.triggers, self.scene.steps
            turns = [turns_by_weight(row, names, steps) for row in weights]
            self.turns = torch.tensor(turns, device=self.scene.base.device)  # (pictures, steps)
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """For every picture, the prediction of the LoRA that is due."""
        due = self.turns[:, moment.step]
        noise = torch.zeros_like(latents)
        for turn in due.unique().tolist():
            theirs = self.loras[turn].noise(latents, moment.time)
            noise = torch.where((due == turn)[:, None, None, None], theirs, noise)
        return noise


def turns_by_weight(weights: Sequence[float], names: Sequence[str], steps: int) -> list[int]:
    """The LoRA of every step; a tie is broken by the names, so that the order does not matter."""
    done = [0] * len(weights)
    turns = []
    for step in range(steps):
        behind = [w * (step + 1) - n for w, n in zip(weights, done, strict=True)]
        turn = max(range(len(weights)), key=lambda i: (round(behind[i], 6), names[i]))
        done[turn] += 1
        turns.append(turn)
    return turns
