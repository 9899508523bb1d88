"""What a merge hands to methods beyond the changes: seed, names, steps and base weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from merging.adapter import Adapter
from merging.deltas import scaled
from merging.diffusion.base import Base
from merging.diffusion.calibration import activations
from merging.diffusion.modules import flat_weight
from merging.errors import MergeError
from merging.merge import MergeRequest, Source, merge
from merging.methods import METHODS
from merging.solve import LayerProblem


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Source, Source]:
    """Two small LoRAs without any trigger, on attention alone."""
    marks = ("attn2.to_k", "attn1.to_out")
    one, two = (random_adapter(seed, marks=marks) for seed in (1, 2))
    return Source(replace(one, trigger="")), Source(replace(two, trigger=""), 0.5)


def factors(*sources: Source, **options: object) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    layers = merge(MergeRequest(sources, **options)).adapter.layers
    return {name: (layer.up, layer.down) for name, layer in sorted(layers.items())}


def same(one: dict, two: dict) -> bool:
    return all(
        torch.equal(a, b) for name in one | two for a, b in zip(one[name], two[name], strict=True)
    )


def test_dare_draws_by_the_seed_of_the_request(pair: tuple[Source, Source]) -> None:
    first = factors(*pair, method="dare")
    assert same(first, factors(*pair, method="dare"))
    assert same(first, factors(*pair[::-1], method="dare"))
    assert not same(first, factors(*pair, method="dare", seed=1))


def test_a_file_under_another_name_draws_the_same(pair: tuple[Source, Source]) -> None:
    one, two = pair
    known = replace(one, adapter=replace(one.adapter, sha256="a" * 64))
    renamed = replace(known, adapter=replace(known.adapter, name="other"))
    assert same(factors(known, two, method="dare"), factors(renamed, two, method="dare"))


def test_mwa_reads_the_step_from_the_header(pair: tuple[Source, Source]) -> None:
    checkpoints = [
        replace(source, adapter=replace(source.adapter, metadata={"ss_steps": step}))
        for source, step in zip(pair, ("100", "300"), strict=True)
    ]
    name, (up, down) = next(iter(factors(*checkpoints, method="mwa").items()))
    one, two = (source.adapter.layers[name].delta().double() for source in pair)
    assert_close(up @ down, (100 * one + 300 * 0.5 * two) / (100 + 300 * 0.5))
    with pytest.raises(MergeError, match="ss_steps"):
        factors(*pair, method="mwa")


def test_every_strength_zero_is_a_sentence(pair: tuple[Source, Source]) -> None:
    silent = [replace(source, strength=0.0) for source in pair]
    with pytest.raises(MergeError, match="merge is empty"):
        factors(*silent, method="ties")


def test_widen_gets_the_base_weights_and_runs_nothing(
    base: Base, pair: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.pipeline.unet, "forward", None)
    monkeypatch.setattr(base.pipeline.text_encoder, "forward", None)
    result = merge(MergeRequest(pair, method="widen", targets="cross-attention"), activations(base))
    assert {row.method for row in result.report.layers} == {"WIDEN"}
    assert not result.report.notes
    for name, layer in result.adapter.layers.items():
        deltas = tuple(scaled(source.adapter.layers[name], source.strength) for source in pair)
        given = LayerProblem(name, deltas, (1.0, 0.5), weight=flat_weight(base.layers[name]))
        assert_close(layer.up @ layer.down, METHODS["widen"].solve(given).dense())


def test_widen_without_a_base_is_a_sentence(pair: tuple[Source, Source]) -> None:
    with pytest.raises(MergeError, match="WIDEN needs a base model"):
        factors(*pair, method="widen")
