"""Compositions against their formulas, on tensors that are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from merging.adapter import Adapter
from merging.diffusion.attention_bias import biased
from merging.diffusion.attention_maps import phrase_masks
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.compose.clora import concept_masks, contrastive_loss, loss_slopes
from merging.diffusion.compose.cmlora import (
    dominant_weights,
    high_share,
    is_noisy,
    refresh_steps,
    reusing_blocks,
)
from merging.diffusion.compose.composer import Moment
from merging.diffusion.compose.freefuse import balanced_owner, seed_likeness
from merging.diffusion.compose.kl_choice import chosen, divergence
from merging.diffusion.compose.loratorio import TEMPERATURE, patch_weights
from merging.diffusion.compose.regions import box_mask
from merging.diffusion.compose.scene import Scene
from merging.diffusion.compose.switch import turn_at
from merging.diffusion.compose.variant import Variant
from merging.diffusion.compose.w_switch import turns_by_weight
from merging.diffusion.compose.word_weights import relative, without_phrase
from merging.io.regions import Region

PROMPT = "a photo of a rn1 cat and a rn2 cat on a green background"


@pytest.fixture(scope="module")
def scene(base: Base, random_adapter: Callable[..., Adapter]) -> Scene:
    """Two pictures of two LoRAs."""
    pair = [(random_adapter(1), 1.0), (random_adapter(2), 0.5)]
    return Scene(base, [(PROMPT, 0), ("a rn1 cat", 1)], "", pair, (16, 16), 10, 3.0)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def alone(scene: Scene, latents: Tensor) -> list[Tensor]:
    """What each LoRA by itself predicts, guided."""
    with torch.no_grad():
        return [Variant(scene, [one]).noise(latents, torch.tensor(500)) for one in scene.adapters]


def noise(scene: Scene, latents: Tensor, name: str, step: int = 0) -> tuple[Tensor, Any]:
    """A composition's prediction, and its composer."""
    composer = COMPOSITIONS[name].composer_class(scene)
    with torch.no_grad(), composer.acting():
        return composer.noise(latents, Moment(step, torch.tensor(500))), composer


def test_composite_is_the_mean(scene: Scene, latents: Tensor, alone: list[Tensor]) -> None:
    found, _ = noise(scene, latents, "composite")
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)


def test_switch_takes_turns(scene: Scene, latents: Tensor, alone: list[Tensor]) -> None:
    """10 steps of 2 LoRAs: turns of 2 steps."""
    for step, lora in ((1, 0), (2, 1), (4, 0)):
        found, _ = noise(scene, latents, "switch", step)
        torch.testing.assert_close(found, alone[lora])


def test_turns_are_the_paper_s_five_steps_where_there_are_many() -> None:
    assert [turn_at(s, 100, 3) for s in (0, 4, 5, 9, 10, 14, 15)] == [0, 0, 1, 1, 2, 2, 0]
    assert {turn_at(s, 12, 6) for s in range(12)} == set(range(6))


def test_weighted_composite_is_the_weighted_mean(
    scene: Scene, latents: Tensor, alone: list[Tensor]
) -> None:
    found, composer = noise(scene, latents, "w-composite")
    w = composer.weights
    torch.testing.assert_close(w.sum(dim=1), torch.ones(2))
    assert w[1].tolist() == [1, 0], "the second prompt names one LoRA alone"
    assert 0.1 < w[0, 0] < 0.9
    expected = w[:, 0, None, None, None] * alone[0] + w[:, 1, None, None, None] * alone[1]
    torch.testing.assert_close(found, expected)


def test_weighted_switch_gives_each_picture_its_own_turn(
    scene: Scene, latents: Tensor, alone: list[Tensor]
) -> None:
    _, composer = noise(scene, latents, "w-switch")
    assert composer.turns[1].tolist() == [0] * 10
    step = composer.turns[0].tolist().index(1)
    found, _ = noise(scene, latents, "w-switch", step)
    torch.testing.assert_close(found, torch.stack([alone[1][0], alone[0][1]]))


def test_turns_by_weight_are_spread() -> None:
    assert turns_by_weight([0.75, 0.25], "ab", 8) == [0, 1, 0, 0, 0, 1, 0, 0]
    assert turns_by_weight([0.5, 0.5], "ab", 4) == [1, 0, 1, 0]
    assert turns_by_weight([0.5, 0.5], "ba", 4) == [0, 1, 0, 1]


def test_influences_become_shares() -> None:
    shares = relative(torch.tensor([[0.1, 0.3], [0.0, 0.0]]))
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0.75], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a photo of a sks cat and a vxz pizza", "a photo of a vxz pizza"),
        ("a photo of a vxz pizza and a sks cat", "a photo of a vxz pizza"),
        ("a photo of a sks cat", "a photo of"),
        ("a sks cat, oil, a tree", "oil, a tree"),
        ("Sks Cat next to the tree", "the tree"),
        ("a sks category", "a sks category"),
    ],
)
def test_a_phrase_goes_with_its_article_and_joint(prompt: str, expected: str) -> None:
    assert without_phrase(prompt, "sks cat") == expected


def test_patches_weigh_by_their_distance_from_the_base() -> None:
    """LoRA 0 turns the first patch around and leaves the second; LoRA 1 does nothing."""
    plain = torch.ones(1, 1, 2, 4)
    turned = plain.clone()
    turned[..., :2] = -1
    weights = patch_weights([turned, plain], plain)
    assert weights.shape == (1, 2, 1, 2, 4)
    torch.testing.assert_close(weights[0, :, 0, 0, 3], torch.tensor([0.5, 0.5]))
    odds = weights[0, 0, 0, 0, 0].double().log() - weights[0, 1, 0, 0, 0].double().log()
    assert weights[0, 0, 0, 1, 1] > 0.999 and odds.item() == pytest.approx(2 / TEMPERATURE, rel=0.1)


def test_loratorio_guides_from_the_base(scene: Scene, latents: Tensor) -> None:
    found, composer = noise(scene, latents, "loratorio")
    with torch.no_grad():
        base_noise = composer.plain.predict(latents, torch.tensor(500))
        cond = [it.predict(latents, torch.tensor(500))[2:] for it in composer.loras]
    weights = patch_weights(cond, base_noise[2:])
    mixed = weights[:, 0] * cond[0] + weights[:, 1] * cond[1]
    torch.testing.assert_close(found, base_noise[:2] + 3 * (mixed - base_noise[:2]))


def test_each_region_has_its_lora_and_its_words(scene: Scene, latents: Tensor) -> None:
    """Left the first LoRA without the second's words, right the second, above the base."""
    boxes = (Region("rn1 cat", (0, 0.5, 0.5, 1)), Region("rn2 cat", (0.5, 0.5, 1, 1)))
    found, _ = noise(replace(scene, regions=boxes), latents, "regions")
    cut = ("a photo of a rn1 cat on a green background", "a rn1 cat")
    left = replace(scene, pairs=[(text, 0) for text in cut])
    with torch.no_grad():
        time = torch.tensor(500)
        expected = Variant(left, scene.adapters[:1]).noise(latents, time)
        bare = Variant(replace(scene, pairs=[("a photo of on a green background", 0), ("", 0)]), [])
        around = bare.noise(latents, time)
    torch.testing.assert_close(found[:, :, 8:, :8], expected[:, :, 8:, :8])
    torch.testing.assert_close(found[:, :, :8], around[:, :, :8])
    assert (found[:, :, 8:, 8:] - expected[:, :, 8:, 8:]).abs().max() > 1e-3


def test_a_merge_is_drawn_in_regions_too(scene: Scene, latents: Tensor) -> None:
    """One file with two triggers: it acts in both boxes, with the words of each."""
    merged = replace(scene.adapters[0][0], trigger="rn1 cat, rn2 cat")
    boxes = (Region("rn1 cat", (0, 0, 0.5, 1)), Region("rn2 cat", (0.5, 0, 1, 1)))
    both = replace(scene, adapters=[(merged, 1.0)], regions=boxes)
    _, composer = noise(both, latents, "regions")
    assert len(composer.parts) == 2, "nothing is around"
    assert len({variant.scene.prompts[0] for variant, _ in composer.parts}) == 2
    assert all(variant.deltas for variant, _ in composer.parts)


def test_a_box_covers_positions_by_their_area() -> None:
    mask = box_mask((0.125, 0, 0.5, 1), (2, 4))
    assert mask.tolist() == [[0.5, 1, 0, 0], [0.5, 1, 0, 0]]


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
    found, _ = noise(scene, latents, "cmlora")
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


def test_concepts_attract_themselves_and_repel_others() -> None:
    """Two branches, two concepts in places of their own: cosines 1 and 0, T = 0.5."""
    apart = torch.zeros(2, 2, 1, 4)
    apart[:, 0, 0, 0] = apart[:, 1, 0, 3] = 1
    e = torch.e
    expected = -torch.log(torch.tensor(e**2 / (e**2 + 2)))
    torch.testing.assert_close(contrastive_loss(apart), expected)
    together = apart[:, :1].repeat(1, 2, 1, 1)
    assert contrastive_loss(together) > contrastive_loss(apart)
    assert contrastive_loss(apart[:, :1]) == 0, "one concept has nothing to repel"


def test_the_latents_go_down_the_loss_one_branch_at_a_time(scene: Scene, latents: Tensor) -> None:
    """The gradient, put together branch by branch, is that of the whole."""
    one = replace(scene, pairs=scene.pairs[:1])
    composer = COMPOSITIONS["clora"].composer_class(one)
    moment, x = Moment(0, torch.tensor(500)), latents[:1].clone().requires_grad_()
    with composer.acting():
        maps = torch.stack([composer._maps(it, x, moment.time) for it in composer.branches])
        (whole,) = torch.autograd.grad(contrastive_loss(maps[:, 0]), x)
        with torch.no_grad():
            moved = composer.move(latents[:1], moment)
            assert torch.equal(composer.move(latents, Moment(5, moment.time)), latents)
    torch.testing.assert_close(moved, latents[:1] - 0.02 * whole, rtol=1e-4, atol=1e-6)
    assert whole.abs().max() > 0
    assert loss_slopes(maps).shape == maps.shape


def test_masks_are_above_a_share_of_the_range() -> None:
    maps = torch.tensor([[[[1.0, 1.2, 1.4, 2.0]], [[2.0, 1.0, 1.0, 1.0]]]])
    masks = concept_masks(maps)[0, :, 0].int()
    assert masks.tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_positions_belong_to_the_seeds_they_are_like() -> None:
    """Ten positions of two kinds; each concept's attention peaks at one of a kind."""
    kinds = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    maps = torch.full((1, 2, 10), 0.1)
    maps[0, 0, 2] = maps[0, 1, 7] = 1
    named = torch.ones(1, 2, dtype=torch.bool)
    features = F.one_hot(kinds, 3)[None] * torch.rand(10, 1)
    likeness = seed_likeness(maps, named, [features])
    assert balanced_owner(likeness, named)[0].tolist() == kinds.tolist()
    alone = torch.tensor([[False, True]])
    assert balanced_owner(seed_likeness(maps, alone, [features]), alone)[0].tolist() == [1] * 10


def test_areas_are_evened_out() -> None:
    """Concept 0 is ahead by a little everywhere, and by how much rises from left to right."""
    lead = torch.linspace(0.01, 0.05, 10)
    likeness = torch.stack([lead, torch.zeros(10)])[None]
    owner = balanced_owner(likeness, torch.ones(1, 2, dtype=torch.bool))
    assert 1 in owner and 0 in owner


def test_freefuse_attends_to_its_own_concept_in_its_mask(scene: Scene) -> None:
    composer = COMPOSITIONS["freefuse"].composer_class(scene)
    assert not composer._bias(256).any()
    composer.masks = torch.zeros(2, 2, 16, 16)
    composer.masks[:, 0, :, :8] = composer.masks[:, 1, :, 8:] = 1
    bias = composer._bias(64).unflatten(1, (8, 8))
    one, two = composer.marks[0].T
    assert not bias[:2].any(), "the negative prompt has no concepts"
    assert torch.equal(bias[2, 3, 1], one - two)
    assert torch.equal(bias[2, 3, 6], two - one)


def test_a_bias_is_added_to_the_scores(base: Base) -> None:
    """One layer against its formula; afterwards the layer is as before."""
    block = base.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, block.to_q.in_features, generator=generator)
    words = torch.randn(1, 77, block.to_k.in_features, generator=generator)
    bias = torch.randn(1, 16, 77, generator=generator)

    def heads(states: Tensor) -> Tensor:
        return states.unflatten(2, (block.heads, -1)).transpose(1, 2)

    with torch.no_grad():
        plain = block(x, encoder_hidden_states=words)
        with biased(base, "attn2", lambda positions: bias[:, :positions]):
            found = block(x, encoder_hidden_states=words)
        q, k, v = heads(block.to_q(x)), heads(block.to_k(words)), heads(block.to_v(words))
        scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + bias[:, None]).softmax(dim=-1)
        expected = block.to_out[0]((scores @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(found, expected)
        assert torch.equal(block(x, encoder_hidden_states=words), plain)
