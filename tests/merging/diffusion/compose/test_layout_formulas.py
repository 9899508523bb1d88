"""CLoRA, FreeFuse and LoRA-Composer against their formulas: attention, masks and boxes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.attention_bias import biased
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.compose.box_layout import cells, layout_loss, moved_noise
from merging.diffusion.compose.clora import concept_masks, contrastive_loss, loss_slopes
from merging.diffusion.compose.composer import Moment
from merging.diffusion.compose.freefuse import balanced_owner, seed_likeness
from merging.diffusion.compose.lora_composer import isolation
from merging.diffusion.compose.scene import Scene
from merging.io.regions import Region


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


def test_boxes_do_not_see_one_another() -> None:
    """Box 0 has positions 0 and 1, box 1 has 1 and 2; 3 is in none."""
    inside = torch.tensor([[True, True, False, False], [False, True, True, False]])
    seen = (isolation(inside) == 0).int().tolist()
    assert seen == [[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]


def test_attention_that_fills_its_box_has_the_least_loss() -> None:
    box = cells((0.25, 0.25, 0.75, 0.75), (16, 16))
    assert box == (4, 4, 12, 12)
    maps = torch.zeros(2, 16, 16)
    maps[0, 4:12, 4:12] = 1  # in its box; the Gaussian's best fifth is near its middle
    maps[1, :4, :4] = 1  # elsewhere
    right, wrong = (layout_loss(maps[i : i + 1], [box]).item() for i in (0, 1))
    assert 0 < right < 1.5
    assert wrong == pytest.approx(8 + 2 * 2 * 12 / 16), "12 of 16 rows and columns are wrong"
    assert layout_loss(maps, [box, box]).item() == pytest.approx(right + wrong)


def test_noise_is_copied_from_where_the_attention_is(latents: Tensor) -> None:
    maps = torch.zeros(1, 16, 16)
    maps[0, 10:14, 2:6] = 1
    found = moved_noise(latents[:1], maps, [(8, 0, 12, 4)])
    source, copy = latents[0, 0, 10:14, 2:6].flatten(), found[0, 0, 0:4, 8:12].flatten()
    assert torch.corrcoef(torch.stack([source, copy]))[0, 1] > 0.9999
    for kind in ("mean", "std"):
        before, after = (getattr(it, kind)((2, 3)) for it in (latents[:1], found))
        torch.testing.assert_close(after, before)


def test_injection_gives_each_box_its_lora_s_attention(scene: Scene, latents: Tensor) -> None:
    """One cross-attention: in a box the LoRA's own, around the base's."""
    boxes = (Region("rn1 cat", (0, 0, 0.5, 1)), Region("rn2 cat", (0.5, 0.5, 1, 1)))
    one = replace(scene, pairs=scene.pairs[:1], regions=boxes)
    block = scene.base.pipeline.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    hidden = torch.randn(2, 256, block.to_q.in_features, generator=torch.Generator().manual_seed(1))
    composer = COMPOSITIONS["lora-composer"].composer_class(one)
    with torch.no_grad():
        with composer.acting():
            found = block(hidden).unflatten(1, (16, 16))
        expected = []
        for variant in composer.variants:
            with variant.in_use():
                answer = block(hidden, encoder_hidden_states=variant.states)
            expected.append(answer.unflatten(1, (16, 16)))
    torch.testing.assert_close(found[:, :, :8], expected[0][:, :, :8])
    torch.testing.assert_close(found[:, 8:, 8:], expected[1][:, 8:, 8:])
    torch.testing.assert_close(found[:, :8, 8:], expected[2][:, :8, 8:])
