"""CMLoRA, the choice by KL and the token mask against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from merging.diffusion.attention_maps import phrase_masks
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.compose.cmlora import (
    dominant_weights,
    high_share,
    is_noisy,
    refresh_steps,
    reusing_blocks,
)
from merging.diffusion.compose.composer import Variant
from merging.diffusion.compose.kl_choice import chosen, divergence
from merging.diffusion.compose.scene import Scene
from tests.merging.diffusion.compose.predictions import predict


def test_the_dominant_lora_weighs_c_times_the_others() -> None:
    """N = 3: c = 2.5, so 3 / 4.5 and 2.5 times that."""
    assert dominant_weights(3, 1) == pytest.approx([2 / 3, 5 / 3, 2 / 3])
    assert sum(dominant_weights(5, 0)) == pytest.approx(5)


def test_refreshes_are_rarer_in_the_middle() -> None:
    assert sorted(refresh_steps(16)) == [0, 2, 4, 6, 9, 12, 15]


def test_high_frequencies_are_those_of_the_outer_radii() -> None:
    """A checkerboard has nothing else, an even picture nothing of them, noise as much as others."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert high_share(board[None]).item() > 2 > high_share(torch.ones(1, 16, 16)).item() == 0
    noisy = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert high_share(noisy.mean(dim=1)).item() == pytest.approx(1, abs=0.1)
    assert is_noisy(noisy) and not is_noisy(torch.ones(1, 4, 16, 16))


def test_reused_blocks_give_the_same_for_the_same_latents(scene: Scene, latents: Tensor) -> None:
    """Only the outer blocks run, and for other latents the answer is near, not the same."""
    blocks = scene.base.pipeline.unet.down_blocks
    with torch.no_grad():
        lora = Variant(scene, scene.adapters[:1])
        known: dict = {}
        with reusing_blocks(lora, known):
            first = lora.noise(latents, torch.tensor(500))
        ran = [0] * len(blocks)
        for i, block in enumerate(blocks):
            layer = block.resnets[0].conv1
            layer.register_forward_hook(lambda *_, i=i: ran.__setitem__(i, ran[i] + 1))
        with reusing_blocks(lora, known):
            again = lora.noise(latents, torch.tensor(500))
        for block in blocks:
            block.resnets[0].conv1._forward_hooks.clear()
    assert torch.equal(first, again)
    assert ran == [1] + [0] * (len(blocks) - 1)
    assert "forward" not in vars(scene.base.pipeline.unet.mid_block)


def test_cmlora_s_first_step_leads_with_the_first_lora(
    scene: Scene, latents: Tensor, alone: list[Tensor]
) -> None:
    found, _ = predict(scene, latents, "cmlora")
    torch.testing.assert_close(found, (1.2 * alone[0] + 0.8 * alone[1]) / 2)


def test_divergence_by_hand() -> None:
    """KL of (1/2, 1/2) and (1/4, 3/4), one row of two that differ."""
    even = torch.zeros(1, 2, 2)
    other = torch.tensor([[[0.0, 0.0], [0.0, 3.0**0.5]]])
    other[0, 1] = torch.tensor([0.25, 0.75]).log()
    expected = 0.5 * (0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(2 / 3).log())
    torch.testing.assert_close(divergence(even, other), expected[None])


def test_each_sample_takes_the_change_that_is_furthest() -> None:
    output = torch.zeros(2, 1, 2)
    one, two = output.clone(), output.clone()
    one[0, 0, 0], two[0, 0, 0], two[1, 0, 1] = 2, 1, 1
    assert chosen(output, [one, two]).tolist() == [[[2, 0]], [[0, 1]]]


def test_tara_changes_keys_of_the_trigger_s_tokens_alone(scene: Scene) -> None:
    base = scene.base
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    composer = COMPOSITIONS["tara"].composer_class(scene)
    with torch.no_grad(), composer.acting():
        cond = composer.states[2:]
        changed = base.layers[name](composer.states)[2:]
    with torch.no_grad():
        difference = (changed - base.layers[name](cond)).abs().amax(dim=2)
    marks = phrase_masks(base, scene.prompts, scene.triggers).amax(dim=2)
    assert torch.equal(difference > 1e-6, marks > 0)
    assert marks.sum() > 3
