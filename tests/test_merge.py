"""What a merge says: of its layers, and of LoRAs that are damaged or say nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.merge import MergeRequest, Source, merge
from merging.report import LayerReport


def changed(adapter: Adapter, change: Callable[[LoraLayer], LoraLayer], count: int) -> Adapter:
    """The adapter with its first layers changed."""
    names = list(adapter.layers)[:count]
    return replace(
        adapter, layers={**adapter.layers, **{name: change(adapter.layers[name]) for name in names}}
    )


def silenced(layer: LoraLayer) -> LoraLayer:
    return replace(layer, up=torch.zeros_like(layer.up))


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Adapter, Adapter]:
    return random_adapter(1, marks=("q_proj",)), random_adapter(2, marks=("q_proj",))


def test_a_layer_that_is_not_finite_is_refused_by_name(pair: tuple[Adapter, Adapter]) -> None:
    broken = changed(pair[0], lambda layer: replace(layer, up=layer.up / 0), 1)
    sentence = rf"random-1: layer {next(iter(broken.layers))} has values that are not finite"
    with pytest.raises(MergeError, match=sentence):
        merge(MergeRequest((Source(broken), Source(pair[1])), method="sum"))


def test_layers_of_zeros_are_left_out_by_name(pair: tuple[Adapter, Adapter]) -> None:
    """As of a LoRA whose text encoder was not trained: the other LoRA then has the layer alone."""
    quiet = changed(pair[0], silenced, 2)
    first = next(iter(quiet.layers))
    result = merge(MergeRequest((Source(quiet), Source(pair[1])), method="ties"))
    assert result.report.notes == [
        f"random-1: 2 layers that are all 0 were left out, first {first}."
    ]
    torch.testing.assert_close(
        result.adapter.layers[first].delta(), pair[1].layers[first].delta().double()
    )


def test_a_lora_of_zeros_is_refused(pair: tuple[Adapter, Adapter]) -> None:
    with pytest.raises(MergeError, match="random-1 changes nothing"):
        merge(MergeRequest((Source(changed(pair[0], silenced, 99)), Source(pair[1])), method="sum"))


def test_every_layer_is_told_as_soon_as_it_is_solved(pair: tuple[Adapter, Adapter]) -> None:
    seen: list[LayerReport] = []
    shares: list[float] = []

    def progress(share: float, _text: str) -> None:
        shares.append(share)
        assert share == 1 or len(seen) == len(shares) - 1

    request = MergeRequest((Source(pair[0]), Source(pair[1])), method="sum")
    result = merge(request, progress=progress, watch=seen.append)
    assert seen == result.report.layers
    assert len(seen) == len(pair[0].layers)
