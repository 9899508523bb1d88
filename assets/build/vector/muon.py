"""Muon (Jordan et al. 2024, github.com/KellerJordan/Muon) for stacks of equal convolutions.

The momentum of every 3 × 3 convolution between layers of one width is made orthogonal by five
steps of Newton and Schulz, all of them in one batched product; AdamW moves the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ORTHOGONAL = 2.5  # times AdamW's rate
DECAY = 0.3  # so that no singular value grows beyond 1 / DECAY: nothing is normalised here
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
STEPS = 5


class Muon:
    """Muon and AdamW behind one optimiser's face."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float) -> None:
        given, self.rate = list(parameters), rate
        width = max(p.shape[0] for p in given if p.ndim == 4)
        equal = [p.ndim == 4 and tuple(p.shape[:2]) == (width, width) for p in given]
        self.stacked = [p for p, is_equal in zip(given, equal, strict=True) if is_equal]
        others = [p for p, is_equal in zip(given, equal, strict=True) if not is_equal]
        self.momenta = [torch.zeros_like(p) for p in self.stacked]
        self.others = torch.optim.AdamW(others, rate, weight_decay=0.0)

    def set_rate(self, rate: float) -> None:
        """AdamW's rate; the stacked ones move `ORTHOGONAL` times as far."""
        self.rate = rate
        for group in self.others.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self.others.step()
        moving = [pair for pair in zip(self.stacked, self.momenta, strict=True) if _moves(pair[0])]
        if not moving:
            return
        slopes = [parameter.grad for parameter, _ in moving]
        momenta = [momentum for _, momentum in moving]
        torch._foreach_lerp_(momenta, slopes, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(slopes, momenta, MOMENTUM)
        ways = orthogonal(torch.stack([way.flatten(1) for way in ahead]))
        rate = ORTHOGONAL * self.rate
        for (parameter, _), way in zip(moving, ways, strict=True):
            parameter.mul_(1 - DECAY * rate).sub_(way.view_as(parameter), alpha=rate)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.stacked:
            parameter.grad = None
        self.others.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs."""
        return {"momenta": self.momenta, "others": self.others.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.others.load_state_dict(state["others"])
        for momentum, kept in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(kept)


def _moves(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with all their singular values brought near 1."""
    made = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-9)
    a, b, c = NEWTON_SCHULZ
    for _ in range(STEPS):
        square = made @ made.mT
        made = a * made + (b * square + c * square @ square) @ made
    return made
