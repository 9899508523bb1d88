"""A scene of two LoRAs, and what each of them predicts alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose.composer import Variant
from merging.diffusion.compose.scene import Scene

PROMPT = "a photo of a rn1 cat and a rn2 cat on a green background"


@pytest.fixture(scope="module")
def scene(base: Base, random_adapter: Callable[..., Adapter]) -> Scene:
    """Two pictures of two LoRAs."""
    pair = [(random_adapter(1), 1.0), (random_adapter(2), 0.5)]
    return Scene(base, [(PROMPT, 0), ("a rn1 cat", 1)], "", pair, (16, 16), 10, 3.0)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def alone(scene: Scene, latents: Tensor) -> list[Tensor]:
    """What each LoRA by itself predicts, guided."""
    with torch.no_grad():
        return [Variant(scene, [one]).noise(latents, torch.tensor(500)) for one in scene.adapters]
