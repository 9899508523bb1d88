"""Merges of any number of LoRAs, and of damaged or empty ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import pytest
import torch

from merging.adapter import Adapter, LoraLayer
from merging.engine import merge
from merging.errors import Cancelled, MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.methods import METHODS
from merging.report import LayerReport
from merging.request import MergeRequest, Source
from tests.conftest import distance
from tests.merging.linalg.problems import random

WEIGHTS_ALONE = [name for name, method in METHODS.items() if method.needs == "nothing"]
RANKS = (1, 4, 320, 2)


def changed(adapter: Adapter, change: Callable[[LoraLayer], LoraLayer], count: int) -> Adapter:
    """The adapter with its first layers changed."""
    names = list(adapter.layers)[:count]
    return replace(
        adapter, layers={**adapter.layers, **{name: change(adapter.layers[name]) for name in names}}
    )


def zeroed(layer: LoraLayer) -> LoraLayer:
    return replace(layer, up=torch.zeros_like(layer.up))


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Adapter, Adapter]:
    return random_adapter(1, marks=("q_proj",)), random_adapter(2, marks=("q_proj",))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_not_finite_is_refused_by_name(
    pair: tuple[Adapter, Adapter], method: str, value: float
) -> None:
    def broken(layer: LoraLayer) -> LoraLayer:
        down = layer.down.clone()
        down[-1, -1] = value
        return replace(layer, down=down)

    damaged = changed(pair[0], broken, 1)
    sentence = rf"random-1: layer {next(iter(damaged.layers))} has values that are not finite"
    with pytest.raises(MergeError, match=sentence):
        merge(MergeRequest((Source(damaged), Source(pair[1])), method=method))


def test_layers_of_zeros_are_left_out_by_name(pair: tuple[Adapter, Adapter]) -> None:
    """As in a LoRA whose text encoder was not trained: only the other LoRA changes the layer."""
    partial = changed(pair[0], zeroed, 2)
    first = next(iter(partial.layers))
    result = merge(MergeRequest((Source(partial), Source(pair[1])), method="ties"))
    assert result.report.notes == [
        f"random-1: 2 layers that are all 0 were left out, first {first}."
    ]
    torch.testing.assert_close(result.adapter.layers[first].delta(), pair[1].layers[first].delta())


def test_a_lora_of_zeros_is_refused(pair: tuple[Adapter, Adapter]) -> None:
    with pytest.raises(MergeError, match="random-1 changes nothing"):
        merge(MergeRequest((Source(changed(pair[0], zeroed, 99)), Source(pair[1])), method="sum"))


def test_every_layer_is_reported_as_soon_as_it_is_solved(pair: tuple[Adapter, Adapter]) -> None:
    seen: list[LayerReport] = []
    counts: set[int] = set()
    shares: list[float] = []

    def progress(share: float, _text: str) -> None:
        shares.append(share)
        assert share == 1 or len(seen) == len(shares) - 1

    def watch(row: LayerReport, count: int) -> None:
        seen.append(row)
        counts.add(count)

    request = MergeRequest((Source(pair[0]), Source(pair[1])), method="sum")
    result = merge(request, progress=progress, watch=watch)
    assert seen == result.report.layers
    assert {len(seen)} == counts == {len(pair[0].layers)}


def lora(i: int) -> Adapter:
    """A layer that all LoRAs have, in ranks from 1 to 320, and one that only this one has."""
    rank = RANKS[i % len(RANKS)]
    shared, single = (
        LoraLayer(random(out, rank, seed=i).float(), random(rank, 12, seed=50 + i).float(), rank)
        for out in (10, 7)
    )
    layers = {"unet.shared": shared, f"unet.own-{i}": single}
    return Adapter(f"lora-{i}", layers, metadata={"ss_steps": str(100 + i)})


@pytest.mark.slow
@pytest.mark.parametrize("method", WEIGHTS_ALONE)
def test_one_to_sixteen_loras(method: str) -> None:
    """Any number, in any order; a layer that only one has stays as it is."""
    for count in range(1, 17):
        loras = [lora(i) for i in range(count)]
        result = merge(MergeRequest(tuple(map(Source, loras)), method=method)).adapter
        assert set(result.layers) == {name for adapter in loras for name in adapter.layers}
        backwards = merge(MergeRequest(tuple(map(Source, loras[::-1])), method=method)).adapter
        assert distance(backwards, result) < 1e-4
        for i, adapter in enumerate(loras):
            delta = adapter.layers[f"unet.own-{i}"].delta()
            assert (result.layers[f"unet.own-{i}"].delta() - delta).norm() < 1e-4 * delta.norm()


@pytest.mark.parametrize("method", WEIGHTS_ALONE)
def test_alpha_of_zero_is_no_change_and_of_an_int_is_that_number(method: str) -> None:
    one, two = lora(1), lora(3)  # their alphas are ints
    partial = changed(one, lambda layer: replace(layer, alpha=0), 1)
    alone = merge(MergeRequest((Source(partial), Source(two)), method=method))
    assert alone.report.notes == [
        "lora-1: 1 layers that are all 0 were left out, first unet.shared."
    ]
    assert distance(alone.adapter, replace(two, layers=two.layers | own_layer(one))) < 1e-4


def own_layer(adapter: Adapter) -> dict[str, LoraLayer]:
    return {name: layer for name, layer in adapter.layers.items() if "own" in name}


def test_threads_are_as_many_afterwards_as_before() -> None:
    before = torch.get_num_threads()
    merge(MergeRequest((Source(lora(1)),), method="sum"))
    actual = [torch.get_num_threads()]
    thread = Thread(target=lambda: actual.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert actual == [before, before]


@pytest.mark.parametrize("done", [0, 1, 5])
def test_a_merge_of_weights_stops_between_layers(
    monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """Layers under way are finished, one per thread; no other is begun."""
    layer = lora(1).layers["unet.shared"]
    many = Adapter("many", {f"unet.{place}": layer for place in range(300)})
    solved = []
    solve = METHODS["sum"].solve

    def counting(problem: LayerProblem) -> Delta:
        solved.append(problem.name)
        return solve(problem)

    monkeypatch.setattr("merging.methods.sum.weighted_sum", counting)
    with pytest.raises(Cancelled):
        merge(MergeRequest((Source(many),), method="sum"), stop=lambda: len(solved) >= done)
    assert done <= len(solved) < done + torch.get_num_threads()
