"""One pass against the paper's iteration, on the embedded base with random adapters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from merging import engine as merge_module
from merging.adapter import Adapter, LoraLayer
from merging.diffusion import calibrate as calibration
from merging.diffusion import calibration_samples as sampling
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import MergeResult, merge
from merging.errors import Cancelled, MergeError
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance

pytestmark = pytest.mark.slow(2)
# The text encoder and the first attention block: 24 layers, twelve of them one after another.
MARKS = (".self_attn.", "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn")


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Adapter, Adapter]:
    """Different ranks, alpha ≠ rank."""
    return random_adapter(1, 4, 2.0, MARKS), random_adapter(2, 8, 8.0, MARKS)


def merged(base: Base, *adapters: Adapter, **options: object) -> MergeResult:
    options = {"samples": 2, **options}
    request = MergeRequest(tuple(Source(adapter) for adapter in adapters), **{**SINGLE, **options})
    return merge(request, activations(base))


@pytest.fixture(scope="module")
def lockstep(base: Base, pair: tuple[Adapter, Adapter]) -> MergeResult:
    return merged(base, *pair)


def test_one_pass_is_what_the_iteration_converges_to(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    converged = merged(base, *pair, rounds=14)
    assert distance(converged.adapter, lockstep.adapter) < 1e-4


def test_the_first_round_is_not_the_fixed_point(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    assert distance(merged(base, *pair, rounds=1).adapter, lockstep.adapter) > 0.1


def test_the_inputs_have_drifted_and_the_report_has_it(lockstep: MergeResult) -> None:
    first, *_, last = lockstep.report.layers
    assert max(first.drift.values()) == 0.0
    assert min(last.drift.values()) > 0.05


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "regmean"},
        {"mode": "delta+residual"},
        {"mode": "full"},
        {"weighting": "relative", "clip_skip": 2},
        {"padding": "first-eos", "tokens": "concept"},
    ],
    ids=str,
)
def test_one_lora_gives_itself_back(
    base: Base, pair: tuple[Adapter, Adapter], options: dict
) -> None:
    assert distance(merged(base, pair[0], **options).adapter, pair[0]) < 1e-4


def test_order_does_not_matter(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    """Prompts and noise depend on the concepts, not on the order of the list."""
    assert distance(merged(base, *pair[::-1]).adapter, lockstep.adapter) < 1e-4


def test_options_change_the_answer_and_the_dense_modes_say_what_they_keep(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    for options in ({"padding": "first-eos"}, {"tokens": "concept"}, {"weighting": "relative"}):
        assert distance(merged(base, *pair, **options).adapter, lockstep.adapter) > 1e-2
    residual = merged(base, *pair, mode="delta+residual")
    assert max(row.rank for row in residual.report.layers) == 4 + 8
    assert 0.5 < min(row.kept_energy for row in residual.report.layers) < 0.9999


def test_micro_batches_change_nothing(
    base: Base,
    pair: tuple[Adapter, Adapter],
    lockstep: MergeResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three samples a pass: paused and resumed at every layer, to the same answer."""
    monkeypatch.setattr(sampling, "POSITIONS_PER_BATCH", 3 * 2 * 16 * 16)
    assert distance(merged(base, *pair).adapter, lockstep.adapter) < 1e-4


def test_some_positions_of_every_picture_may_count(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    """Drawn by each sample's own seed: neither batches nor the order of LoRAs change the choice."""
    some = merged(base, *pair, rows=64)
    assert distance(some.adapter, lockstep.adapter) > 1e-3
    assert distance(merged(base, *pair[::-1], rows=64).adapter, some.adapter) < 1e-4
    assert distance(merged(base, pair[0], rows=64).adapter, pair[0]) < 1e-4


def test_same_request_same_bytes(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    again = merged(base, *pair)
    for name, layer in lockstep.adapter.layers.items():
        assert torch.equal(layer.up, again.adapter.layers[name].up)
        assert torch.equal(layer.down, again.adapter.layers[name].down)
    other = merged(base, *pair, seed=1)
    assert distance(other.adapter, lockstep.adapter) > 1e-3


def test_three_loras_and_layers_that_only_one_has(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    three = [
        random_adapter(1, marks=(".attn2.",)),
        random_adapter(2, marks=(".self_attn.", ".attn2.")),
        random_adapter(3, rank=2, marks=(".attn1.",)),
    ]
    result = merged(base, *three)
    assert set(result.adapter.layers) == {name for one in three for name in one.layers}
    rows = {row.layer: row for row in result.report.layers}
    alone = next(name for name in rows if ".attn1." in name)
    assert rows[alone].sources == ("random-3",) and rows[alone].rank == 2
    shared = next(name for name in rows if ".attn2." in name)
    assert rows[shared].sources == ("random-1", "random-2") and rows[shared].rank == 8


def test_sixteen_loras_of_one_layer_kind(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    many = [random_adapter(seed, rank=2, marks=("v_proj",), size=0.1) for seed in range(16)]
    result = merged(base, *many, samples=1)
    assert {row.rank for row in result.report.layers} == {16 * 2}
    assert distance(merged(base, *many[::-1], samples=1).adapter, result.adapter) < 1e-4


def test_rank_1_and_rank_320_meet(base: Base, random_adapter: Callable[..., Adapter]) -> None:
    """More components than the layer has channels: redundant, and nothing is lost."""
    thin = random_adapter(1, rank=1, marks=("q_proj",))
    generator = torch.Generator().manual_seed(2)
    layers = {}
    for name in thin.layers:
        out, width = base.layers[name].weight.shape
        up = torch.randn(out, 320, generator=generator) * 0.003
        layers[name] = LoraLayer(up, torch.randn(320, width, generator=generator), alpha=320.0)
    thick = Adapter("thick", layers, base="mini", trigger="thk cat")
    assert distance(merged(base, thick, samples=1).adapter, thick) < 1e-4
    both = merged(base, thin, thick, samples=1).adapter
    assert distance(merged(base, thick, thin, samples=1).adapter, both) < 1e-4


def test_disjoint_loras_keep_to_their_layers(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """A layer of one source keeps that rank; the rows of the others only make it smaller."""
    one, two = random_adapter(1, marks=("q_proj",)), random_adapter(2, rank=6, marks=("v_proj",))
    rows = merged(base, one, two).report.layers
    assert {(row.sources, row.rank) for row in rows} == {(("random-1",), 4), (("random-2",), 6)}


def test_text_only_loras_need_no_pictures(
    base: Base, random_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """K, V and the text encoder are solved from prompts; the UNet is never run."""
    text = (".self_attn.", ".attn2.to_k", ".attn2.to_v")
    pair = [random_adapter(seed, marks=text) for seed in (1, 2)]
    monkeypatch.setattr(base.pipeline.unet, "forward", None)
    result = merged(base, *pair)
    assert len(result.adapter.layers) == len(pair[0].layers)


def test_layers_outside_the_targets_fall_back_and_are_named(
    base: Base, pair: tuple[Adapter, Adapter]
) -> None:
    result = merged(base, *pair, targets="cross-attention", fallback="sum")
    rows = {row.layer: row for row in result.report.layers}
    outside = next(name for name in rows if ".attn1." in name)
    assert rows[outside].method == "Weighted sum"
    total = sum(adapter.layers[outside].delta() for adapter in pair)
    torch.testing.assert_close(result.adapter.layers[outside].delta().float(), total)
    assert any("outside the targets" in note for note in result.report.notes)


def test_layers_too_wide_for_the_budget_fall_back_by_name(
    base: Base, pair: tuple[Adapter, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    width = min(layer.down.shape[1] for layer in pair[0].layers.values())
    monkeypatch.setattr(merge_module, "GRAM_BYTES", 8 * width**2 * (2 * 3 + 3))
    result = merged(base, *pair, fallback="sum", samples=2)
    rows = {row.method for row in result.report.layers}
    assert rows == {"IterIS", "Weighted sum"}
    assert any("too wide for" in note and "first" in note for note in result.report.notes)


def test_samples_that_cannot_fit_are_refused_before_the_pass(
    base: Base, pair: tuple[Adapter, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MAPS_HELD", 2**40)
    with pytest.raises(MergeError, match=r"4 samples would hold .* free.*; take fewer samples"):
        merged(base, *pair, samples=2)


def test_convolutions_and_feed_forward_with_all_targets(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    marks = ("conv1", "conv_in", "proj_in", "ff.net.0", "time_emb_proj", "mlp.fc1")
    one = random_adapter(1, marks=marks)
    assert distance(merged(base, one, targets="all").adapter, one) < 1e-4
    pair = merged(base, one, random_adapter(2, marks=marks), targets="all")
    assert {row.method for row in pair.report.layers} == {"IterIS"}


def test_model_is_untouched_afterwards(base: Base, lockstep: MergeResult) -> None:
    del lockstep
    assert not any(layer._forward_hooks for layer in base.layers.values())


def test_stop_ends_the_pass_and_leaves_no_hook(base: Base, pair: tuple[Adapter, Adapter]) -> None:
    texts: list[str] = []
    request = MergeRequest(tuple(Source(adapter) for adapter in pair), samples=4, **SINGLE)
    with pytest.raises(Cancelled):
        merge(
            request,
            activations(base),
            progress=lambda _share, text: texts.append(text),
            stop=lambda: any(text.startswith("merging, layer 9 ") for text in texts),
        )
    assert not any(layer._forward_hooks for layer in base.layers.values())


def test_nothing_is_run_or_solved_once_stop_is_true(
    base: Base, pair: tuple[Adapter, Adapter]
) -> None:
    """Also in the middle of a pass: here when the UNet's first layer has run."""
    texts: list[str] = []
    entered: list[bool] = []  # per run of the UNet: whether layers were being solved

    def enter(*_: object) -> None:
        entered.append(any(text.startswith("merging") for text in texts))

    watch = base.layers["unet.conv_in"].register_forward_hook(enter)
    request = MergeRequest(tuple(Source(adapter) for adapter in pair), samples=2, **SINGLE)
    with pytest.raises(Cancelled):
        merge(
            request,
            activations(base),
            progress=lambda _share, text: texts.append(text),
            stop=lambda: any(entered),
        )
    watch.remove()
    solved = sum(name.startswith("text_encoder.") for name in pair[0].layers)
    assert texts[-1].startswith(f"merging, layer {solved} of") and entered.count(True) == 1


def test_an_adapter_for_another_base_is_refused(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    good = random_adapter(1)
    name, layer = next(iter(good.layers.items()))
    alien = Adapter("alien", {name + "_x": layer}, base="mini", trigger="x")
    with pytest.raises(MergeError, match="no such layer"):
        merged(base, good, alien)


def test_composed_and_preserved_rows_enter_the_same_equations(
    base: Base, pair: tuple[Adapter, Adapter], lockstep: MergeResult
) -> None:
    composed = merged(base, *pair, teacher="composed")
    assert composed.report.layers[-1].drift.keys() == {
        "random-1",
        "random-2",
        "composed",
        "preserved",
    }
    assert distance(composed.adapter, lockstep.adapter) > 0.01
    # Nearly all weight on preserved rows, and a ridge towards zero: hardly any change.
    preserved = merged(base, *pair, preserve=1e6, fallback="zero")
    strongest, free = (
        max(layer.delta().norm().item() for layer in one.adapter.layers.values())
        for one in (preserved, lockstep)
    )
    assert strongest < 1e-3 * free
