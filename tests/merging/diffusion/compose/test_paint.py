"""Painting one around the other: the noise of what is kept, who paints, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose import paint as painting
from merging.diffusion.compose.composer import Moment
from merging.diffusion.compose.paint import Paint, leading_noise
from merging.diffusion.compose.scene import Scene, Weighted
from merging.diffusion.render import render
from merging.diffusion.schedulers import using_sampler
from merging.options import Sampler

PROMPT = "a photo of a rn1 cat and a rn2 dog"


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> list[Weighted]:
    return [(random_adapter(1), 1.0), (replace(random_adapter(2), trigger="rn2 dog"), 1.0)]


def scene_of(base: Base, pair: list[Weighted], prompt: str = PROMPT) -> Scene:
    return Scene(base, [(prompt, 0)], "", pair, (16, 16), 4, 3.0)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "DPM++ 2M Karras"])
def test_the_kept_part_arrives_with_every_sampler(
    base: Base, pair: list[Weighted], sampler: Sampler
) -> None:
    scene, clean = scene_of(base, pair), torch.randn(1, 8, 16, 16)
    with using_sampler(base, sampler):
        scheduler = base.pipeline.scheduler
        scheduler.set_timesteps(6)
        latents = torch.randn(1, 8, 16, 16) * scheduler.init_noise_sigma
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, time)
            noise = leading_noise(scene, scaled, clean, time)
            latents = scheduler.step(noise, time, latents, return_dict=False)[0]
    assert (latents - clean).abs().mean() < 0.05, "DDIM leaves the noise of its first level"


@pytest.mark.slow
def test_who_is_not_named_does_not_paint(base: Base, pair: list[Weighted]) -> None:
    alone = [(replace(pair[1][0], trigger=""), 1.0)]
    prompt = "a photo of a rn2 dog"
    painted, expected = (
        render(base, [prompt], [3], adapters=adapters, steps=2, compose="paint")[0]
        for adapters in (pair, alone)
    )
    assert painted.tobytes() == expected.tobytes()
    nobody = render(base, ["a tree"], [3], adapters=pair, steps=2, compose="paint")[0]
    assert nobody.tobytes() == render(base, ["a tree"], [3], steps=2)[0].tobytes()


@pytest.mark.slow
def test_what_was_painted_stays_while_the_next_one_paints(base: Base, pair: list[Weighted]) -> None:
    composer = Paint(scene_of(base, pair))
    latents, now = torch.randn(1, 8, 16, 16), Moment(2, torch.tensor(500))
    with torch.no_grad(), composer.acting():
        free = composer.noise(latents, now)
        mask = torch.zeros(1, 1, 16, 16)
        mask[..., :8] = 1
        kept = torch.randn(1, 8, 16, 16)
        composer.round = replace(composer.round, earlier=kept, mask=mask)
        noise = composer.noise(latents, now)
        assert noise[..., 8:].equal(free[..., 8:])
        known = leading_noise(composer.scene, latents, kept, now.time)
        assert noise[..., :8].equal(known[..., :8])
        composer.finish(latents)
        composer.round = replace(composer.round, earlier=kept, mask=None, first=3)
        assert composer.noise(latents, now).equal(known), "a style leaves the first steps as is"


@pytest.mark.parametrize(("found", "rounds"), [(True, 3), (False, 4)])
def test_the_smallest_paints_first_and_the_other_order_follows_a_failure(
    base: Base, pair: list[Weighted], monkeypatch: pytest.MonkeyPatch, found: bool, rounds: int
) -> None:
    """Pictures are of one value each; which LoRA shows where in them is given here."""
    composer = Paint(scene_of(base, pair))
    columns = {(0, 1.0): slice(1, 7), (1, 2.0): slice(10, 12)}  # LoRA, picture: alone
    columns |= {(0, 3.0): slice(1, 7), (0, 4.0): slice(1, 7), (1, 4.0): slice(10, 12)}
    columns |= {(1, 3.0): slice(10, 12)} if found else {}

    def advantage(_base: Base, latents: Tensor, *given: object, **_: object) -> Tensor:
        lora = [one.concept.change is given[1] for one in composer.things].index(True)
        maps = torch.zeros(1, 16, 16)
        maps[0, 4:12, columns.get((lora, latents[0, 0, 0, 0].item()), slice(0))] = 1
        return maps

    monkeypatch.setattr(painting, "advantage", advantage)
    with composer.acting():
        models = [one.model for one in composer.things]
        seen = []
        for value in range(1, rounds + 1):
            seen.append(composer.round)
            finished = composer.finish(torch.full((1, 8, 16, 16), float(value)))
    assert [models.index(one.model) for one in seen] == [0, 1, 0, 1][:rounds]
    assert seen[2].earlier is not None and (seen[2].earlier == 2).all()
    assert finished is not None and finished[0, 0, 8, 8] == rounds
