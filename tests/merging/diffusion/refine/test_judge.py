"""The judge: the LoRAs' own advantage says what the detector says, on the embedded base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from PIL import Image

from merging.adapter import Adapter
from merging.bundled import shelf
from merging.diffusion.base import Base
from merging.diffusion.refine import judge as judging
from merging.diffusion.refine.advantage import advantage, around
from merging.diffusion.refine.concept import NO_CHANGE, Concept, concept_of
from merging.diffusion.refine.judge import Judge, build_judge, encode, owner_of
from merging.diffusion.refine.sampling import seeded_noise
from merging.diffusion.render import render
from merging.errors import Cancelled, MergeError
from merging.evaluation.detector import load_detector

PAIR = ("sks cat", "qfj dog")
PROMPT = "a photo of a sks cat and a qfj dog"


def concept(base: Base, phrase: str) -> Concept:
    (entry,) = (entry for entry in shelf() if entry.trigger == phrase)
    return concept_of(base, entry.adapter(base.table))


@pytest.fixture(scope="module")
def pair(base: Base) -> Iterator[Judge]:
    """Thresholds from two pictures of half the steps, which do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "JUDGE_PICTURES", 2)
        patch.setattr(judging, "JUDGE_STEPS", 6)
        yield build_judge(base, [concept(base, phrase) for phrase in PAIR])


@pytest.fixture(scope="module")
def drawn(base: Base, pair: Judge) -> list[Image.Image]:
    """A picture of the base, then one of each LoRA alone."""
    lora = {entry.trigger: entry.adapter(base.table) for entry in shelf()}
    models: list[list[tuple[Adapter, float]]] = [
        [],
        *([(lora[it.phrase], 1.0)] for it in pair.concepts),
    ]
    pictures = [render(base, [PROMPT], [1], adapters=model, steps=8) for model in models]
    return [picture for model in pictures for picture in model]


@pytest.mark.slow
def test_it_finds_what_the_detector_finds(pair: Judge, drawn: Sequence[Image.Image]) -> None:
    findings = pair.findings(drawn, [PROMPT] * len(drawn))
    found = [[one.present for one in row] for row in findings]
    assert found == [[False, False], [True, False], [False, True]]
    detector = load_detector()
    scores = detector.scores(drawn)
    seen = torch.stack([detector.contains(scores, [phrase]) for phrase in PAIR], dim=1)
    assert found == seen.tolist()


@pytest.mark.slow
def test_a_prompt_without_the_trigger_does_not_hide_the_concept(
    pair: Judge, drawn: Sequence[Image.Image]
) -> None:
    ((cat, dog),) = pair.findings(drawn[1:2], ["a photo of something"])
    assert cat.score > 0.8 > 2 * dog.score, "of its threshold, which is from prompts with it"


def test_the_base_has_no_advantage_over_itself(base: Base) -> None:
    latents = seeded_noise(base, [1, 2], (16, 16))
    assert not advantage(base, latents, [PROMPT] * 2, NO_CHANGE, times=(500,), draws=1).any()


def test_the_base_stays_as_it_was_and_a_batch_changes_nothing(
    base: Base, random_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = concept_of(base, random_adapter(1)).change
    latents = seeded_noise(base, [1, 2, 3], (16, 16))
    once = advantage(base, latents, [PROMPT] * 3, change, times=(500,), draws=1)
    module = "merging.diffusion.refine.advantage.POSITIONS_PER_BATCH"
    monkeypatch.setattr(module, 16 * 16)
    again = advantage(base, latents, [PROMPT] * 3, change, times=(500,), draws=1)
    torch.testing.assert_close(again, once, rtol=1e-3, atol=1e-5)
    assert not any(module._forward_hooks for module in base.modules.values())


def test_around_is_the_mean_of_what_is_inside(base: Base) -> None:
    values = torch.randn(2, 16, 16)
    means = around(values)
    torch.testing.assert_close(means[1, 7, 7], values[1, 5:10, 5:10].mean())
    torch.testing.assert_close(means[0, 0, 15], values[0, :3, 13:].mean())


def test_every_place_has_one_owner_and_no_style() -> None:
    maps = torch.rand(3, 16, 16)
    owners = owner_of(maps, [False, True, False])
    assert set(owners.unique().tolist()) == {0, 2}
    assert (owners == 2).equal(maps[2] > maps[0])


def test_a_picture_survives_the_way_to_its_latents(base: Base) -> None:
    """Decoded again, it is the picture, but for what the autoencoder loses."""
    (image,) = render(base, ["a photo of a cat on a green background"], [3], steps=8)
    latents = encode(base, [image])
    pixels = base.pipeline.vae.decode(latents / base.pipeline.vae.config.scaling_factor).sample
    levels = torch.tensor(list(image.convert("RGB").tobytes())).view(*image.size, 3)
    given = levels.permute(2, 0, 1) / 127.5 - 1
    assert (pixels[0] - given).abs().mean() < 0.1


def test_what_cannot_be_judged_is_one_sentence(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    silent = replace(random_adapter(1), trigger="")
    with pytest.raises(MergeError, match="no trigger phrase in the file"):
        build_judge(base, [concept_of(base, silent)])
    with pytest.raises(MergeError, match="the trigger phrase “rn1 cat”"):
        build_judge(base, [concept_of(base, random_adapter(1))] * 2)
    with pytest.raises(MergeError, match="multiple of 32 pixels"):
        encode(base, [Image.new("RGB", (60, 64))])


@pytest.mark.slow
def test_a_lora_that_does_nothing_is_refused(
    base: Base, random_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "JUDGE_PICTURES", 1)
    monkeypatch.setattr(judging, "JUDGE_STEPS", 1)
    with pytest.raises(MergeError, match="cannot be told from the base's"):
        build_judge(base, [concept_of(base, random_adapter(1), 0.0)])


def test_stop_takes_effect_inside_a_step(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    calls = iter([False] * 20)
    with pytest.raises(Cancelled):
        build_judge(base, [concept_of(base, random_adapter(1))], stop=lambda: next(calls, True))


def test_a_quiet_lora_is_not_found_in_what_another_one_draws(base: Base) -> None:
    """In the cat's place the dog's advantage is above its small threshold, the cat's is larger."""
    judge = Judge(base, tuple(concept(base, phrase) for phrase in PAIR), (0.4, 0.06))
    advantages = torch.zeros(2, 16, 16)
    advantages[0, 2:6, 2:6], advantages[1, 2:6, 2:6] = 0.7, 0.12
    maps = advantages / torch.tensor(judge.thresholds)[:, None, None]
    assert [one.present for one in judge.read(maps)] == [True, False]
    advantages[1, 9:12, 9:12] = 0.09
    maps = advantages / torch.tensor(judge.thresholds)[:, None, None]
    assert [one.present for one in judge.read(maps)] == [True, True]
