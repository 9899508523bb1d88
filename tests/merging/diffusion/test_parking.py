"""Batches that wait in main memory: the same merge, and nothing of theirs left on the device."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from merging import formats
from merging.diffusion import calibrate, calibration_samples
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations, parking_of
from merging.diffusion.parking import Parking
from merging.engine import merge
from merging.errors import MergeError
from merging.request import MergeRequest, Source
from tests.conftest import SHELF


@pytest.fixture
def request_of_two() -> MergeRequest:
    files = (SHELF["sks cat"], SHELF["vxz pizza"])
    return MergeRequest(tuple(Source(formats.read(file)) for file in files), samples=1)


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
    monkeypatch.setattr(calibration_samples, "POSITIONS_PER_BATCH", 2 * side * side)
    expected = merge(request_of_two, activations(base)).adapter
    parking = Watched(room, base)
    monkeypatch.setattr(calibrate, "parking_of", lambda *_: parking)
    parked = merge(request_of_two, activations(base)).adapter
    for name, layer in expected.layers.items():
        assert torch.equal(parked.layers[name].up, layer.up)
        assert torch.equal(parked.layers[name].down, layer.down)
    assert max(parking.away) > 100_000
    assert not parking._parked, "all have come back"


GIB = 2**30


@pytest.mark.parametrize(
    ("on_gpu", "in_main", "parks"), [(100 * GIB, 0, False), (1000, 100 * GIB, True)]
)
def test_batches_are_parked_where_a_gpu_has_no_room_for_all(
    on_gpu: int, in_main: int, parks: bool, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(monkeypatch, on_gpu, in_main)
    gpu = replace(base, device=torch.device("cuda"))
    assert (parking_of(gpu, sweep(), 50) is not None) == parks


@pytest.mark.parametrize(("device", "where"), [("cuda", "on the GPU and in main memory"),
                                               ("cpu", "on cpu")])  # fmt: skip
def test_what_fits_nowhere_is_refused_with_what_would_fit(
    device: str, where: str, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(monkeypatch, 1000, 2000)
    with pytest.raises(MergeError, match=rf"50 samples would hold .* {where}, where 0\.0 are free"):
        parking_of(replace(base, device=torch.device(device)), sweep(), 50)


def memory(monkeypatch: pytest.MonkeyPatch, on_gpu: int, in_main: int) -> None:
    """So much is free, on a GPU that need not be there."""
    free = {"cuda": on_gpu, "cpu": in_main}
    monkeypatch.setattr(calibrate, "free_bytes", lambda device: free[device.type])


def sweep() -> Any:
    """What decides how much a merge holds: a layer of the picture, in teachers and merge."""
    target = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    return SimpleNamespace(targets=[target], merged_inputs=True)
