"""Batches that wait in main memory: the same merge, and nothing of theirs left on the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from merging import formats
from merging.diffusion import calibrate, calibration_samples
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.parking import Parking
from merging.engine import merge
from merging.request import MergeRequest, Source
from tests.conftest import SHELF


@pytest.fixture
def request_of_two() -> MergeRequest:
    files = (SHELF["sks cat"], SHELF["vxz pizza"])
    return MergeRequest(tuple(Source(formats.read(file)) for file in files), samples=2)


class Watched(Parking):
    """Notes how much is away each time that a pass pauses."""

    def __init__(self, room: int, base: Base) -> None:
        super().__init__(room, calibrate._weights(base))
        self.away: list[int] = []

    def park(self, one: Any) -> None:
        super().park(one)
        for storages in self._parked.values():
            assert all(storage.nbytes() == 0 for storage, _ in storages), "emptied"
        self.away.append(sum(c.nbytes() for pairs in self._parked.values() for _, c in pairs))


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 400_000], ids=["all", "some"])
def test_a_merge_is_the_same_with_its_batches_parked(
    room: int, base: Base, request_of_two: MergeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small batches, on a CPU: there “away” is another place in the same memory."""
    side = calibration_samples.latent_side(base)
    monkeypatch.setattr(calibration_samples, "POSITIONS_PER_BATCH", 4 * side * side)
    expected = merge(request_of_two, activations(base)).adapter
    parking = Watched(room, base)
    monkeypatch.setattr(calibrate, "parking_of", lambda *_: parking)
    parked = merge(request_of_two, activations(base)).adapter
    for name, layer in expected.layers.items():
        assert torch.equal(parked.layers[name].up, layer.up)
        assert torch.equal(parked.layers[name].down, layer.down)
    assert max(parking.away) > 100_000
    assert not parking._parked, "all have come back"
