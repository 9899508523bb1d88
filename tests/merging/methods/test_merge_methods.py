"""What a merge passes to methods beside the changes: seed, names, steps and base weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from merging.adapter import Adapter
from merging.calibration.row_sets import row_sets
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.layer_ops import flat_weight
from merging.diffusion.tokens import counted_tokens, text_ids
from merging.engine import merge
from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import scaled_delta
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Source, Source]:
    """Two small LoRAs of attention layers, without trigger phrases."""
    marks = ("attn2.to_k", "attn1.to_out")
    one, two = (random_adapter(seed, marks=marks) for seed in (1, 2))
    return Source(replace(one, trigger="")), Source(replace(two, trigger=""), 0.5)


def factors(*sources: Source, **options: object) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    layers = merge(MergeRequest(sources, **{**SINGLE, **options})).adapter.layers
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
    expected = (100 * one + 300 * 0.5 * two) / (100 + 300 * 0.5)
    assert_close(up @ down, expected.float())
    with pytest.raises(MergeError, match="ss_steps"):
        factors(*pair, method="mwa")


@pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if method.needs == "nothing"]
)
def test_all_strengths_zero_are_refused(pair: tuple[Source, Source], method: str) -> None:
    zeroed = [
        replace(source, strength=0.0, adapter=replace(source.adapter, metadata={"ss_steps": "1"}))
        for source in pair
    ]
    with pytest.raises(MergeError, match="all strengths are 0"):
        factors(*zeroed, method=method)


def test_loras_that_cancel_each_other_are_refused(pair: tuple[Source, Source]) -> None:
    one = pair[0]
    other = replace(one, strength=-1.0, adapter=replace(one.adapter, name="other"))
    with pytest.raises(MergeError, match="the LoRAs cancel each other"):
        factors(one, other, method="iso-c")


def test_widen_gets_the_base_weights_and_runs_nothing(
    base: Base, pair: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.pipeline.unet, "forward", None)
    monkeypatch.setattr(base.pipeline.text_encoder, "forward", None)
    result = merge(
        MergeRequest(pair, method="widen", targets="cross-attention", **SINGLE), activations(base)
    )
    assert {row.method for row in result.report.layers} == {"WIDEN"}
    assert not result.report.notes
    for name, layer in result.adapter.layers.items():
        deltas = tuple(
            scaled_delta(source.adapter.layers[name], source.strength) for source in pair
        )
        problem = LayerProblem(name, deltas, (1.0, 0.5), weight=flat_weight(base.layers[name]))
        assert_close(layer.up @ layer.down, METHODS["widen"].solve(problem).dense().float())


def test_widen_without_a_base_is_refused(pair: tuple[Source, Source]) -> None:
    with pytest.raises(MergeError, match="WIDEN needs a base model"):
        factors(*pair, method="widen")


def test_custom_diffusion_solves_text_keys_and_values_and_names_the_rest(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """On the phrases alone, whatever the options for prompts, tokens and preserved rows."""
    marks = (".attn2.to_", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k")
    pair = tuple(
        Source(random_adapter(seed, marks=marks), trigger=trigger, prompts=("a cup",))
        for seed, trigger in enumerate(("old cat", "new mug"))
    )
    request = MergeRequest(pair, method="custom-diffusion", samples=3, seed=7, **SINGLE)
    assert row_sets(request)[0].prompts == ("old cat", "photo of a old cat")
    assert row_sets(request)[2].weights == (0.0, 0.0) and request.counted_tokens == "concept"
    result = merge(request, activations(base))
    solved = {row.layer for row in result.report.layers if row.method == "Custom Diffusion"}
    assert solved == {
        name for name in pair[0].adapter.layers if name.endswith(("attn2.to_k", "attn2.to_v"))
    }
    [note] = result.report.notes
    assert "outside the targets (text keys and values) were merged by weighted sum" in note
    for source, row_set in zip(pair, row_sets(request), strict=False):
        x = phrase_states(base, row_set.prompts, source.phrase)
        for name in solved:
            expected = x @ source.adapter.layers[name].delta().T
            actual = x @ result.adapter.layers[name].delta().T
            assert (actual - expected).norm() < 1e-2 * expected.norm()
    again = merge(replace(request, tokens="all", preserve=0.3), activations(base))
    assert distance(again.adapter, result.adapter) < 1e-4


def phrase_states(base: Base, prompts: Sequence[str], phrase: str) -> torch.Tensor:
    """What the text encoder gives for the tokens of the phrase: (rows, channels)."""
    with torch.no_grad():
        states = base.pipeline.text_encoder(text_ids(base, prompts))[0]
    mask = counted_tokens(base, prompts, [phrase], "keep", "concept")
    return states[mask]
