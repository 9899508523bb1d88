"""How the embedded base and its LoRAs are trained, on small parts of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assets.build import models
from assets.build.vector import base, loras

RANKS = torch.tensor([3, 0, 2])


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(5, 4, 1)], ids=["linear", "conv"])
def test_each_concept_trains_a_pair_of_its_own(layer: nn.Linear | nn.Conv2d) -> None:
    torch.manual_seed(0)
    adapted = loras.Adapted(layer, RANKS)
    nn.init.normal_(adapted.up)
    spread = (3, 3) if isinstance(layer, nn.Conv2d) else ()
    values = torch.randn(6, 5, *spread) if spread else torch.randn(6, 7, 5)
    made = adapted(values)
    for concept, rank in enumerate(RANKS.tolist()):
        part = slice(2 * concept, 2 * concept + 2)
        change = adapted.up[concept, :, :rank] @ adapted.down[concept, :rank]
        weight = layer.weight + change.reshape(layer.weight.shape)
        if spread:
            wanted = nn.functional.conv2d(values[part], weight, layer.bias)
        else:
            wanted = nn.functional.linear(values[part], weight, layer.bias)
        torch.testing.assert_close(made[part], wanted)


def test_noise_hides_coarse_parts_and_stays_white_in_the_fine_ones() -> None:
    latents = torch.zeros(512, models.LATENTS, 16, 16)
    noise = base.noise_like(latents, torch.Generator().manual_seed(0))
    assert noise.mean(dim=(2, 3)).std() > 0.3 > 4 / 16
    steps = noise.diff(dim=3).std() / 2**0.5
    assert abs(steps - 1) < 0.02
    again = base.noise_like(latents, torch.Generator().manual_seed(0))
    assert torch.equal(noise, again)


def test_late_times_weigh_by_what_they_do_to_the_picture() -> None:
    ratio = models.signal_to_noise(models.noise_schedule())
    weights = base.weights(ratio)
    assert weights[0] == pytest.approx(base.CEILING / ratio[0].item())
    assert weights[999] == pytest.approx(base.FLOOR / ratio[999].item())
    middle = (ratio < base.CEILING) & (ratio > base.FLOOR)
    assert (weights[middle] == 1).all() and middle.sum() > 300
