"""Composites, and a merge trained on them: the laws, on the embedded base with few pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.refine import training
from merging.diffusion.refine.checkpoint import Checkpoint
from merging.diffusion.refine.composites import (
    Composites,
    orders,
    place_weights,
    shows_both,
)
from merging.diffusion.refine.concept import NO_CHANGE, Concept, concept_of
from merging.diffusion.refine.lessons import Lessons
from merging.diffusion.refine.paint import paint, same_kind, surroundings
from merging.diffusion.refine.pictures import Pictures
from merging.diffusion.refine.run import refiner
from merging.diffusion.refine.sampling import KeptPart, draw_latents, seeded_noise
from merging.diffusion.refine.student import Student, trainable
from merging.engine import merge
from merging.errors import MergeError
from merging.linalg.delta import Delta
from merging.request import MergeRequest, Source
from merging.runtime.progress import silent

PROMPT = "a photo of a rn1 cat and a rn2 dog"
FEW = {"composites": 2, "alone": 2, "plain": 1}  # rows of a step


@pytest.fixture
def pair(base: Base, random_adapter: Callable[..., Adapter]) -> list[Concept]:
    adapters = random_adapter(1), replace(random_adapter(2), trigger="rn2 dog")
    return [concept_of(base, adapter) for adapter in adapters]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five pictures a step instead of 32."""
    for name, count in FEW.items():
        monkeypatch.setitem(training.ROWS, name, count)
    return iter(())


def halves(count: int) -> Tensor:
    """w of two LoRAs, one on the left and one on the right."""
    weights = torch.zeros(count, 2, 16, 16)
    weights[:, 0, :, :8] = weights[:, 1, :, 8:] = 1
    return weights


def pictures(base: Base, weights: Tensor) -> Pictures:
    seeds = range(len(weights))
    return Pictures(seeded_noise(base, [*seeds], (16, 16)), (PROMPT,) * len(weights), weights)


def lessons(base: Base) -> Lessons:
    one = [torch.zeros(2, 2, 16, 16).index_fill_(1, torch.tensor([i]), 1.0) for i in range(2)]
    alone = tuple(pictures(base, weights) for weights in one)
    return Lessons(
        Composites(pictures(base, halves(2)), {}, {}),
        alone,
        pictures(base, torch.zeros(2, 2, 16, 16)),
    )


def trained(base: Base, pair: list[Concept], steps: int) -> dict[str, Delta]:
    """A student that starts from the first LoRA."""
    with trainable(base):
        student = Student(base, dict(pair[0].change.deltas), {})
        loras = [concept.change.on(base) for concept in pair]
        training.train(student, loras, lessons(base), steps, 3, Checkpoint(None), silent)
    return student.layers()


def peaks(*places: tuple[int, int, float]) -> Tensor:
    """One picture's m of each LoRA: (1, LoRAs, 16, 16), a square around each place."""
    maps = torch.zeros(1, len(places), 16, 16)
    for lora, (row, column, height) in enumerate(places):
        maps[0, lora, row - 1 : row + 2, column - 1 : column + 2] = height
    return maps


def test_both_must_be_there_apart_and_by_themselves() -> None:
    things = [False, False]
    assert shows_both(peaks((3, 3, 2.0), (12, 12, 1.5)), things).all()
    assert not shows_both(peaks((3, 3, 2.0), (12, 12, 0.9)), things).any()
    assert not shows_both(peaks((3, 3, 2.0), (3, 5, 2.0)), things).any()
    confused = peaks((3, 3, 2.0), (12, 12, 2.0))
    confused[0, 0, 11:14, 11:14] = 1.5
    assert not shows_both(confused, things).any()


def test_a_place_has_one_lora_and_a_style_all_places() -> None:
    weights = place_weights(peaks((3, 3, 2.0), (12, 12, 1.5)), [False, False])
    assert weights[0, 0, 3, 3] == weights[0, 1, 12, 12] == 1
    assert not weights[0, :, 8, 8].any()
    assert weights.sum(dim=1).max() <= 1 + 1e-6
    styled = place_weights(peaks((3, 3, 2.0), (12, 12, 1.5)), [False, True])
    assert (styled[0, 1] == 1).all() and styled[0, 0, 3, 3] == 1


def test_things_are_painted_in_every_order_and_styles_last() -> None:
    concepts = [Concept(phrase, NO_CHANGE, phrase) for phrase in ("a cat", "b dog", "c style")]
    assert orders(concepts) == [(0, 1), (0, 2), (1, 0), (1, 2)]
    assert same_kind(concepts[0], Concept("d cat", NO_CHANGE, ""))
    assert not same_kind(concepts[0], concepts[1])


def test_the_surroundings_of_the_best_place_are_a_square() -> None:
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 7, 6], maps[0, 0, 15, 15] = 2.0, 1.0
    near = surroundings(maps)[0, 0]
    assert near.sum() == 81 and near[3:12, 2:11].all()


def test_what_is_kept_stays_and_one_painter_is_its_lora(base: Base, pair: list[Concept]) -> None:
    noise = seeded_noise(base, [5], (16, 16))
    alone = draw_latents(base, [PROMPT], noise, pair[0].change, steps=2, guidance=3.0)
    painted = paint(base, pair[:1], [PROMPT], [5], (16, 16), steps=2, guidance=3.0)
    assert painted.equal(alone)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    kept = KeptPart(alone, mask, noise)
    around = draw_latents(base, [PROMPT], -noise, pair[1].change, steps=2, guidance=3.0, kept=kept)
    assert around[..., :8].equal(alone[..., :8])
    assert (around[..., 8:] - alone[..., 8:]).abs().mean() > 0.1


def test_every_place_has_the_prediction_of_its_lora(base: Base, pair: list[Concept]) -> None:
    latents = seeded_noise(base, [1], (16, 16))
    batch = training._Batch(base, latents, torch.tensor([500]), (PROMPT,))
    changes = [concept.change for concept in pair]
    with torch.no_grad():
        predictions = []
        for change in (*changes, NO_CHANGE):
            with change.applied(base):
                predictions.append(batch.predict())
    first, second, plain = predictions
    mixed = training.targets(batch, changes, halves(1))
    torch.testing.assert_close(mixed[..., :8], first[..., :8])
    torch.testing.assert_close(mixed[..., 8:], second[..., 8:])
    torch.testing.assert_close(training.targets(batch, changes, torch.zeros(1, 2, 16, 16)), plain)
    both = training.targets(batch, changes, torch.ones(1, 2, 16, 16))
    torch.testing.assert_close(both, first + second - plain, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_training_is_repeatable_and_leaves_the_base(base: Base, pair: list[Concept]) -> None:
    wanted = [one.requires_grad for one in base.pipeline.unet.parameters()]
    start = dict(pair[0].change.deltas)
    untrained, once, again = (trained(base, pair, steps) for steps in (0, 2, 2))
    assert untrained.keys() == once.keys() == start.keys()
    for name, delta in start.items():
        torch.testing.assert_close(
            untrained[name].dense().double(), delta.dense(), rtol=1e-4, atol=1e-6
        )
        assert once[name].rank == delta.rank
        assert once[name].up.equal(again[name].up) and once[name].down.equal(again[name].down)
    assert any(not once[name].up.equal(untrained[name].up) for name in start)
    assert [one.requires_grad for one in base.pipeline.unet.parameters()] == wanted
    assert not any(module._forward_hooks for module in base.modules.values())


def test_one_lora_stays_as_it_is(base: Base, random_adapter: Callable[..., Adapter]) -> None:
    request = MergeRequest((Source(random_adapter(1)),), method="sum")
    plain = merge(request).adapter
    refined = merge(replace(request, refine=5), activations(base), refiner=refiner(base)).adapter
    for name, layer in plain.layers.items():
        assert refined.layers[name].up.equal(layer.up)


def test_two_need_a_base_and_two_triggers(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    pair = tuple(Source(random_adapter(seed)) for seed in (1, 2))
    request = MergeRequest(pair, method="sum", refine=5)
    assert request.based and not replace(request, refine=0).based
    with pytest.raises(MergeError, match="needs a base model"):
        merge(request)
    same = MergeRequest(
        tuple(replace(source, trigger="sks cat") for source in pair), method="sum", refine=5
    )
    with pytest.raises(MergeError, match="the trigger phrase “sks cat”"):
        merge(same, activations(base), refiner=refiner(base))
