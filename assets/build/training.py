"""What every training script shares: resuming, learning rates, moving averages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def cosine(step: int, steps: int, *, warmup: int, floor: float = 0.01) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    share = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))


class Average:
    """Exponential moving average of parameters, with a ramp so that early steps do not stick."""

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999) -> None:
        self.live = list(parameters)
        self.decay = decay
        self.shadow = [parameter.detach().clone() for parameter in self.live]

    def update(self, step: int) -> None:
        """Move towards the live parameters."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.live], rate)

    def swap(self) -> None:
        """Exchange average and live parameters; calling it twice restores both."""
        for live, shadow in zip(self.live, self.shadow, strict=True):
            kept = live.detach().clone()
            live.data.copy_(shadow)
            shadow.copy_(kept)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill in between leaves the old one."""
    fresh = path.with_name(f"{path.name}.part")
    torch.save(state, fresh)
    fresh.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none yet."""
    return torch.load(path, "cpu", weights_only=True) if path.exists() else None


def resume(path: Path, model: nn.Module, optimizer: Optimizer) -> int:
    """Give model and optimiser what `keep` wrote; the steps behind them, 0 without a checkpoint."""
    state = load(path)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def keep(path: Path, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Write a checkpoint of a model and its optimiser."""
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    save(path, state)


def wait(path: Path) -> dict[str, Any]:
    """The file's content, once another process has written it."""
    while not path.exists():
        time.sleep(0.2)
    return torch.load(path, "cpu", weights_only=True)


def run(
    steps: int,
    start: int,
    step: Callable[[int], float],
    keep: Callable[[int], None],
    save_every: float,
) -> None:
    """Call step(i) -> loss for the steps left; keep(i) often and at the end; print what happens."""
    losses: list[float] = []
    kept = began = time.monotonic()
    for place in range(start, steps):
        losses.append(step(place))
        if (place + 1) % 50 == 0:
            pace = (time.monotonic() - began) / (place + 1 - start)
            mean = sum(losses[-200:]) / len(losses[-200:])
            print(f"{place + 1}/{steps} loss {mean:.4f} {pace:.3f} s/step", flush=True)
        if time.monotonic() - kept > save_every:
            keep(place + 1)
            kept = time.monotonic()
    keep(steps)


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
