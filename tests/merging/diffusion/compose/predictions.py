"""One step of a composition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.compose.composer import Moment
from merging.diffusion.compose.scene import Scene


def predict(scene: Scene, latents: Tensor, name: str, step: int = 0) -> tuple[Tensor, Any]:
    """A composition's prediction, and its composer."""
    composer = COMPOSITIONS[name].composer_class(scene)
    with torch.no_grad(), composer.acting():
        return composer.noise(latents, Moment(step, torch.tensor(500))), composer
