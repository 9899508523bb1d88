"""What a packed layer keeps, and how many numbers it takes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from merging.linalg.delta import Delta
from merging.packs.packed_layer import LayerOfLoras, PackedLayer
from tests.merging.linalg.problems import change, random


def layer(*deltas: Delta | None) -> LayerOfLoras:
    weights = [0.0 if delta is None else 1 / delta.norm() for delta in deltas]
    return LayerOfLoras(deltas, weights)


def alike(count: int) -> list[Delta]:
    """LoRAs that use the same 6 directions on either side."""
    left, right = random(40, 6, seed=1), random(6, 30, seed=2)
    return [
        Delta(left @ random(6, 4, seed=10 + i), random(4, 6, seed=20 + i) @ right)
        for i in range(count)
    ]


def lost(one: LayerOfLoras, packed: PackedLayer) -> float:
    """The share of Σ w² ‖Δ‖² that is lost, on dense matrices."""
    total = gone = 0.0
    for place, (delta, weight) in enumerate(zip(one.deltas, one.weights, strict=True)):
        if delta is not None:
            stored = packed.delta(place)
            kept = torch.zeros_like(delta.dense()) if stored is None else stored.dense()
            total += (weight * delta.dense()).square().sum().item()
            gone += (weight * (delta.dense() - kept)).square().sum().item()
    return gone / total


@pytest.mark.parametrize("keep", [1.0, 0.99, 0.9, 0.5])
@pytest.mark.parametrize("shared", [False, True])
def test_no_more_is_lost_than_allowed(keep: float, shared: bool) -> None:
    one = layer(*alike(5)) if shared else layer(change(3), None, change(5), change(1, 9.0))
    for packed in (one.apart(keep), one.shared(keep), one.packed(keep)):
        assert lost(one, packed) <= 1 - keep + 1e-12


def test_all_of_it_comes_back() -> None:
    one = layer(change(3), None, change(5))
    packed = one.packed(1.0)
    assert packed.delta(1) is None
    for place in (0, 2):
        kept, delta = packed.delta(place), one.deltas[place]
        assert kept is not None and delta is not None
        assert_close(kept.dense(), delta.dense())


def test_what_loras_share_is_stored_once() -> None:
    one = layer(*alike(8))
    packed = one.packed(0.999999)
    assert packed.up is not None
    assert packed.left.shape[1] <= 6 and packed.right.shape[0] <= 6
    assert packed.numbers < 0.5 * one.apart(0.999999).numbers


def test_loras_that_share_nothing_are_no_larger_than_by_themselves() -> None:
    one = layer(*(change(i, out=60, width=50, rank=4) for i in range(4)))
    for keep in (1.0, 0.9):
        packed = one.packed(keep)
        assert packed.up is None
        assert packed.numbers == one.apart(keep).numbers


def test_small_loras_count_as_much_as_large_ones() -> None:
    one = layer(change(3), change(4, 1000.0))
    packed = one.packed(0.9)
    for place, delta in enumerate(one.deltas):
        kept = packed.delta(place)
        assert kept is not None and delta is not None
        assert (kept.dense() - delta.dense()).norm() < 0.7 * delta.dense().norm()
