"""Compositions against their formulas: means, turns, patches and regions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from merging.diffusion.compose.composer import Variant
from merging.diffusion.compose.loratorio import TEMPERATURE, patch_weights
from merging.diffusion.compose.regions import box_mask, region_mask
from merging.diffusion.compose.scene import Scene
from merging.diffusion.compose.switch import turn_at
from merging.diffusion.compose.w_switch import turns_by_weight
from merging.diffusion.compose.word_weights import relative, without_phrase
from merging.io.regions import Region, parse_region
from tests.merging.diffusion.compose.predictions import predict


def test_composite_is_the_mean(scene: Scene, latents: Tensor, alone: list[Tensor]) -> None:
    found, _ = predict(scene, latents, "composite")
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)


def test_switch_takes_turns(scene: Scene, latents: Tensor, alone: list[Tensor]) -> None:
    """10 steps of 2 LoRAs: turns of 2 steps."""
    for step, lora in ((1, 0), (2, 1), (4, 0)):
        found, _ = predict(scene, latents, "switch", step)
        torch.testing.assert_close(found, alone[lora])


def test_turns_are_the_paper_s_five_steps_where_there_are_many() -> None:
    assert [turn_at(s, 100, 3) for s in (0, 4, 5, 9, 10, 14, 15)] == [0, 0, 1, 1, 2, 2, 0]
    assert {turn_at(s, 12, 6) for s in range(12)} == set(range(6))


def test_weighted_composite_is_the_weighted_mean(
    scene: Scene, latents: Tensor, alone: list[Tensor]
) -> None:
    found, composer = predict(scene, latents, "w-composite")
    w = composer.weights
    torch.testing.assert_close(w.sum(dim=1), torch.ones(2))
    assert w[1].tolist() == [1, 0], "the second prompt names one LoRA alone"
    assert 0.1 < w[0, 0] < 0.9
    expected = w[:, 0, None, None, None] * alone[0] + w[:, 1, None, None, None] * alone[1]
    torch.testing.assert_close(found, expected)


def test_weighted_switch_gives_each_picture_its_own_turn(
    scene: Scene, latents: Tensor, alone: list[Tensor]
) -> None:
    _, composer = predict(scene, latents, "w-switch")
    assert composer.turns[1].tolist() == [0] * 10
    step = composer.turns[0].tolist().index(1)
    found, _ = predict(scene, latents, "w-switch", step)
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


def test_a_phrase_inside_another_stays() -> None:
    prompt = "a sks cat girl and a sks cat"
    assert without_phrase(prompt, "sks cat", ["sks cat", "sks cat girl"]) == "a sks cat girl"
    assert without_phrase(prompt, "sks cat girl", ["sks cat"]) == "a sks cat"


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
    found, composer = predict(scene, latents, "loratorio")
    with torch.no_grad():
        base_noise = composer.plain.predict(latents, torch.tensor(500))
        cond = [it.predict(latents, torch.tensor(500))[2:] for it in composer.loras]
    weights = patch_weights(cond, base_noise[2:])
    mixed = weights[:, 0] * cond[0] + weights[:, 1] * cond[1]
    torch.testing.assert_close(found, base_noise[:2] + 3 * (mixed - base_noise[:2]))


def test_each_region_has_its_lora_and_its_words(scene: Scene, latents: Tensor) -> None:
    """Left the first LoRA without the second's words, right the second, above the base."""
    boxes = (Region("rn1 cat", (0, 0.5, 0.5, 1)), Region("rn2 cat", (0.5, 0.5, 1, 1)))
    found, _ = predict(replace(scene, regions=boxes), latents, "regions")
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


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (64, 64)])
def test_a_drawn_region_covers_what_was_drawn(size: tuple[int, int]) -> None:
    """Two cells that make a box are this box; a cell alone covers its share of the picture."""
    drawn = parse_region("cat=4x4:c000")
    torch.testing.assert_close(region_mask(drawn, size), box_mask((0, 0, 0.5, 0.25), size))
    steps = region_mask(parse_region("cat=4x4:8421"), size)
    assert steps.mean().item() == pytest.approx(4 / 16)
    assert steps[0, 0] == 1 and steps[-1, -1] == 1 and steps[0, -1] == 0


def test_a_merge_is_drawn_in_regions_too(scene: Scene, latents: Tensor) -> None:
    """One file with two triggers: it acts in both boxes, with the words of each."""
    merged = replace(scene.adapters[0][0], trigger="rn1 cat, rn2 cat")
    boxes = (Region("rn1 cat", (0, 0, 0.5, 1)), Region("rn2 cat", (0.5, 0, 1, 1)))
    both = replace(scene, adapters=[(merged, 1.0)], regions=boxes)
    _, composer = predict(both, latents, "regions")
    assert len(composer.parts) == 2, "nothing is around"
    assert len({variant.scene.prompts[0] for variant, _ in composer.parts}) == 2
    assert all(variant.deltas for variant, _ in composer.parts)


def test_a_box_covers_positions_by_their_area() -> None:
    mask = box_mask((0.125, 0, 0.5, 1), (2, 4))
    assert mask.tolist() == [[0.5, 1, 0, 0], [0.5, 1, 0, 0]]
