"""The training of a merge: it learns, it stops at once, and it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.calibration.plan import RefinePlan
from merging.calibration.refine_size import ROWS
from merging.diffusion.base import Base
from merging.diffusion.refine import training
from merging.diffusion.refine.checkpoint import Checkpoint, checkpoint_of
from merging.diffusion.refine.composites import Composites
from merging.diffusion.refine.concept import Concept, ModelChange, concept_of
from merging.diffusion.refine.lessons import Lessons
from merging.diffusion.refine.pictures import Pictures, joined, kept_pictures
from merging.diffusion.refine.sampling import seeded_noise
from merging.diffusion.refine.student import Student, trainable
from merging.engine import merge
from merging.errors import Cancelled
from merging.linalg.delta import Delta
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, never, silent

PROMPT = "a photo of a rn1 cat and a rn2 dog"
CONV = ("resnets.0.conv1", "resnets.0.time_emb_proj", ".attn2.", ".self_attn.")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pictures a step instead of 32, kept in a checkpoint after every second step."""
    for name, count in {"composites": 2, "alone": 2, "plain": 1}.items():
        monkeypatch.setitem(training.ROWS, name, count)
    monkeypatch.setattr(training, "KEPT_EVERY", 2)


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> list[Adapter]:
    """The first has convolutions and text encoder, the second the text's keys and values alone."""
    keys = random_adapter(2, marks=(".attn2.to_k", ".attn2.to_v"), size=1.0)
    return [random_adapter(1, marks=CONV, size=1.0), replace(keys, trigger="rn2 dog")]


@pytest.fixture(scope="module")
def concepts(base: Base, pair: list[Adapter]) -> list[Concept]:
    return [concept_of(base, adapter) for adapter in pair]


@pytest.fixture(scope="module")
def start(pair: list[Adapter]) -> dict[str, Delta]:
    """Their mean, which is half of either at best."""
    layers = merge(MergeRequest(tuple(map(Source, pair)), method="average")).adapter.layers
    return {name: Delta(layer.scale * layer.up, layer.down) for name, layer in layers.items()}


def pictures(base: Base, weights: Tensor) -> Pictures:
    seeds = range(len(weights))
    return Pictures(seeded_noise(base, [*seeds], (16, 16)), (PROMPT,) * len(weights), weights)


def lessons(base: Base) -> Lessons:
    """Two pictures of each kind; of the composites each half is one LoRA's."""
    halves = torch.zeros(2, 2, 16, 16)
    halves[:, 0, :, :8] = halves[:, 1, :, 8:] = 1
    one = [torch.zeros(2, 2, 16, 16).index_fill_(1, torch.tensor([i]), 1.0) for i in range(2)]
    return Lessons(
        Composites(pictures(base, halves), {}, {}),
        tuple(pictures(base, weights) for weights in one),
        pictures(base, torch.zeros(2, 2, 16, 16)),
    )


def train(
    base: Base,
    concepts: list[Concept],
    start: dict[str, Delta],
    steps: int,
    *,
    saved: Path | None = None,
    progress: Progress = silent,
    stop: Stop = never,
) -> tuple[dict[str, Delta], training.Losses]:
    """The layers after so many steps, and the losses."""
    with ExitStack() as stack:
        stack.enter_context(base.stopping_at_layers(stop))
        stack.enter_context(trainable(base))
        student = Student(base, start, {})
        loras = [concept.change.on(base) for concept in concepts]
        checkpoint = Checkpoint(saved)
        losses = training.train(student, loras, lessons(base), steps, 3, checkpoint, progress)
    return student.layers(), losses


@torch.no_grad()
def errors(base: Base, concepts: list[Concept], layers: dict[str, Delta]) -> dict[str, float]:
    """Of a merge's predictions at one time, by the kind of picture."""
    changes, given = [concept.change for concept in concepts], lessons(base)
    kinds = {"composites": given.composites.pictures, "alone": joined(given.alone)}
    found = {}
    for kind, rows in kinds.items():
        times = torch.full((len(rows),), 500)
        batch = training._Batch(base, rows.latents, times, rows.prompts)
        wanted = training.targets(batch, changes, rows.weights)
        with ModelChange(layers).applied(base):
            found[kind] = (batch.predict() - wanted).square().mean().item()
    return found


def hooked(base: Base) -> bool:
    return any(
        module._forward_hooks or module._forward_pre_hooks for module in base.modules.values()
    )


@pytest.mark.slow
def test_it_learns_with_every_kind_of_layer(
    base: Base,
    concepts: list[Concept],
    start: dict[str, Delta],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The losses fall, and convolutions, text encoder and layers of one LoRA alone all move."""
    monkeypatch.setattr(training, "WARM_UP", 1)
    layers, losses = train(base, concepts, start, 12)
    assert {kind: len(values) for kind, values in losses.by_kind.items()} == dict.fromkeys(ROWS, 12)
    before, after = (errors(base, concepts, model) for model in (start, layers))
    assert all(after[kind] < before[kind] for kind in before), (before, after)
    assert sum(after.values()) < 0.9 * sum(before.values())
    assert layers.keys() == start.keys()
    kinds = ("conv1", "time_emb_proj", "self_attn", "attn2.to_q", "attn2.to_k")
    for kind in kinds:
        names = [name for name in start if kind in name]
        assert names
        for name in names:
            moved = layers[name].dense() - start[name].dense()
            assert layers[name].rank == start[name].rank
            assert moved.norm() > 1e-4 * start[name].dense().norm(), name


@pytest.mark.slow
def test_after_stop_it_goes_on_to_the_same_bytes(
    base: Base, concepts: list[Concept], start: dict[str, Delta], tmp_path: Path
) -> None:
    whole, losses = train(base, concepts, start, 5)
    seen: list[str] = []

    def interrupt(_share: float, text: str) -> None:
        seen.append(text)
        if text == "refining, step 4 of 5":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        train(base, concepts, start, 5, saved=tmp_path, progress=interrupt)
    resumed, same = train(
        base, concepts, start, 5, saved=tmp_path, progress=lambda _, text: seen.append(text)
    )
    assert seen[4:] == [f"refining, step {step} of 5" for step in (3, 4, 5)]
    assert same.by_kind == losses.by_kind
    for name, delta in whole.items():
        assert resumed[name].up.equal(delta.up) and resumed[name].down.equal(delta.down)


def test_stop_takes_effect_within_a_step(
    base: Base, concepts: list[Concept], start: dict[str, Delta]
) -> None:
    asked = iter([False] * 300)  # layers: the targets take more
    with pytest.raises(Cancelled):
        train(base, concepts, start, 3, stop=lambda: next(asked, True))
    assert not hooked(base)
    assert not any(one.grad is not None for one in base.pipeline.unet.parameters())


def test_what_was_drawn_is_not_drawn_again(base: Base, tmp_path: Path) -> None:
    saved, drawn = Checkpoint(tmp_path / "new"), pictures(base, torch.rand(3, 2, 16, 16))
    first = kept_pictures(saved, "plain", base.device, lambda: drawn)
    again = kept_pictures(saved, "plain", base.device, lambda: pytest.fail("drawn again"))
    for one in (first, again):
        assert one.prompts == drawn.prompts
        assert one.latents.equal(drawn.latents) and one.weights.equal(drawn.weights)
    kept_nowhere = kept_pictures(Checkpoint(None), "plain", base.device, lambda: drawn)
    assert kept_nowhere.latents.equal(drawn.latents)


def test_a_checkpoint_is_of_one_request(
    base: Base, concepts: list[Concept], start: dict[str, Delta], tmp_path: Path
) -> None:
    """Whatever changes the bytes has another folder."""
    plan = RefinePlan(
        names=("one", "two"),
        phrases=("rn1 cat", "rn2 dog"),
        prompts=((), ()),
        deltas=tuple(concept.change.deltas for concept in concepts),
        shifts=({}, {}),
        start=start,
        start_shifts={},
        steps=5,
        seed=0,
    )
    name = next(iter(start))
    louder = start | {name: Delta(2 * start[name].up, start[name].down)}
    others = [
        replace(plan, seed=1),
        replace(plan, steps=6),
        replace(plan, start=louder),
        replace(plan, phrases=("rn1 cat", "rn3 dog")),
        replace(plan, deltas=plan.deltas[::-1]),
    ]
    folders = [checkpoint_of(tmp_path, base, one).folder for one in (plan, plan, *others)]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 1 + len(others)
    assert checkpoint_of(None, base, plan).folder is None
