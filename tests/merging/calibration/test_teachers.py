"""Prompts with two concepts that a merge of two weights teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from merging.adapter import Adapter, VectorDelta
from merging.calibration.row_sets import composite_pairs
from merging.calibration.teachers import composite_deltas, composite_shifts
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import merge
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import ScaledDeltas
from merging.options import Teacher
from merging.request import MergeRequest, Source
from tests.conftest import distance


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Source, Source]:
    return Source(random_adapter(1, rank=4, alpha=2.0)), Source(random_adapter(2, rank=8))


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["sum", "tsv"])
def test_a_couples_merge_teaches_its_prompts(
    base: Base, pair: tuple[Source, Source], teacher: Teacher
) -> None:
    """Where little else counts the model runs on them as under that merge."""
    only = {"composed_weight": 1e6, "preserve": 0.0, "ridge": 1e-9}
    taught = merge(MergeRequest(pair, samples=2, teacher=teacher, **only), activations(base))
    drift = taught.report.layers[-1].drift
    assert drift["composed: rn1 cat + rn2 cat"] < 1e-3 < 0.05 < drift["random-1"]


@pytest.mark.slow
def test_order_does_not_matter(base: Base, pair: tuple[Source, Source]) -> None:
    request = MergeRequest(pair, samples=2, teacher="tsv")
    one, other = (
        merge(replace(request, sources=each), activations(base)).adapter
        for each in (pair, pair[::-1])
    )
    assert distance(one, other) < 1e-4


@pytest.mark.parametrize("teacher", ["sum", "tsv"])
def test_a_composite_is_the_two_and_no_third(
    pair: tuple[Source, Source], random_adapter: Callable[..., Adapter], teacher: Teacher
) -> None:
    third = Source(random_adapter(3))
    request = MergeRequest((*pair, third), teacher=teacher)
    changes = [dict(ScaledDeltas(each.adapter.layers, 1.0)) for each in request.sources]
    layers = list(changes[0])[:3]

    def problem(layer: str) -> LayerProblem:
        return LayerProblem(layer, tuple(own[layer] for own in changes), (1.0,) * 3)

    assert composite_pairs(request) == [(0, 1), (1, 2), (2, 0)]
    first, *_ = composite_deltas(request, layers, problem)
    alone = merge(MergeRequest(pair, method=teacher)).adapter
    for layer in layers:
        expected = alone.layers[layer].delta().double()
        assert (first[layer].dense() - expected).norm() < 1e-5 * expected.norm()
    shifts = [{"norm": VectorDelta(bias=torch.full((2,), float(10**i)))} for i in range(3)]
    found = [each["norm"].bias for each in composite_shifts(request, shifts)]
    assert [own.tolist() for own in found] == [[11, 11], [110, 110], [101, 101]]
