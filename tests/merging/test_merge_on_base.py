"""Merges on the embedded base with other options than the paper's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from merging.adapter import Adapter
from merging.calibration.row_sets import row_sets
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.tokens import text_ids
from merging.engine import MergeResult, merge
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance

TEXT = ("layers.0.", "layers.1.")


def merged(base: Base, *adapters: Adapter, **options: object) -> MergeResult:
    request = MergeRequest(tuple(map(Source, adapters)), **{**SINGLE, "samples": 2, **options})
    return merge(request, activations(base))


@pytest.mark.slow
def test_the_composed_teacher_takes_three_loras_a_style_and_layers_that_only_one_has(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    three = [
        random_adapter(1, marks=(".attn2.to_k", ".attn2.to_v", "q_proj")),
        random_adapter(2, marks=(".attn2.to_k", ".attn1.to_q")),
        replace(random_adapter(3, rank=2, marks=(".attn2.to_v", "q_proj")), trigger="rn3 style"),
    ]
    options = {"teacher": "composed", "mode": "delta+residual", "samples": 1}
    result = merged(base, *three, **options)
    assert set(result.adapter.layers) == {name for one in three for name in one.layers}
    assert all(
        layer.up.isfinite().all() and layer.down.isfinite().all()
        for layer in result.adapter.layers.values()
    )
    for row in result.report.layers:
        assert row.drift.keys() == {"random-1", "random-2", "random-3", "composed", "preserved"}
        assert row.objective["merged"] < row.objective["base"]
    assert distance(merged(base, *three[::-1], **options).adapter, result.adapter) < 1e-4


@pytest.mark.parametrize("strength", [-0.5, 1.7])
def test_one_lora_at_any_strength_gives_itself_back_as_strong(
    base: Base, random_adapter: Callable[..., Adapter], strength: float
) -> None:
    lora = random_adapter(1, marks=TEXT)
    request = MergeRequest((Source(lora, strength),), samples=2, **SINGLE)
    layers = lora.layers.items()
    scaled = replace(
        lora,
        layers={name: replace(layer, alpha=strength * layer.alpha) for name, layer in layers},
    )
    assert distance(merge(request, activations(base)).adapter, scaled) < 1e-4


def decaying(adapter: Adapter) -> Adapter:
    """The adapter with every component a tenth as large as the one before."""
    sizes = 10.0 ** -torch.arange(4)
    layers = adapter.layers.items()
    return replace(
        adapter, layers={name: replace(layer, up=layer.up * sizes) for name, layer in layers}
    )


def test_ranks_are_cut_by_what_the_outputs_lose(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """On the first layer's inputs, which are the same in all merges, a plain SVD loses more."""
    pair = [decaying(random_adapter(seed, marks=TEXT)) for seed in (1, 2)]
    auto = merged(base, *pair, rank="auto")
    assert min(row.kept_energy for row in auto.report.layers) >= 0.995
    assert max(row.rank for row in auto.report.layers) < 4 + 4
    exact, cut = merged(base, *pair), merged(base, *pair, rank=1)
    name = cut.report.layers[0].layer
    inputs: list[torch.Tensor] = []
    watch = base.layers[name].register_forward_hook(
        lambda _layer, arguments, _output: inputs.append(arguments[0].flatten(0, 1))
    )
    for row_set in row_sets(MergeRequest(tuple(map(Source, pair)), samples=2, **SINGLE)):
        base.pipeline.text_encoder(text_ids(base, row_set.prompts))
    watch.remove()
    whole, best = (one.adapter.layers[name].delta() for one in (exact, cut))
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    lost, lost_plainly = (
        (torch.cat(inputs) @ (whole - one).T).norm() for one in (best, s[0] * u[:, :1] @ vh[:1])
    )
    assert lost < lost_plainly
