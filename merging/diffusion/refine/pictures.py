"""Pictures that a merge is trained on, as latents, with the weight of every LoRA in every place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merging.diffusion.refine.checkpoint import Checkpoint


@dataclass(frozen=True)
class Pictures:
    """Finished latents, and whose prediction is wanted at every place of them."""

    latents: Tensor  # (n, channels, height, width)
    prompts: tuple[str, ...]
    weights: Tensor  # w (n, LoRAs, height, width), on the CPU

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.prompts)

    def state(self) -> dict[str, Any]:
        """All of it, as a checkpoint keeps it."""
        return {"latents": self.latents, "prompts": list(self.prompts), "weights": self.weights}

    def rows(self, numbers: Sequence[int]) -> Pictures:
        """Some of them."""
        some = torch.tensor(numbers, dtype=torch.long)
        prompts = tuple(self.prompts[number] for number in numbers)
        return Pictures(self.latents[some.to(self.latents.device)], prompts, self.weights[some])


def kept_pictures(
    saved: Checkpoint, name: str, device: torch.device, make: Callable[[], Pictures]
) -> Pictures:
    """Those of this name in a checkpoint; made and kept if there are none."""
    state = saved.kept(name, lambda: make().state())
    return Pictures(state["latents"].to(device), tuple(state["prompts"]), state["weights"])


def joined(parts: Sequence[Pictures]) -> Pictures:
    """All pictures of these parts."""
    return Pictures(
        torch.cat([one.latents for one in parts]),
        tuple(prompt for one in parts for prompt in one.prompts),
        torch.cat([one.weights for one in parts]),
    )
