"""Clip skip and A1111's syntax in what a merge learns from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from merging import python_api
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import MergeResult, merge
from merging.errors import MergeError
from merging.export.recipe import header, replay
from merging.io.files import RECIPE_KEY
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance

pytestmark = pytest.mark.slow
MARKS = (".self_attn.", "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k")


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Adapter, Adapter]:
    return random_adapter(1, 4, 2.0, MARKS), random_adapter(2, 8, 8.0, MARKS)


def merged(base: Base, *sources: Source, **options: object) -> MergeResult:
    request = MergeRequest(sources, **{**SINGLE, "samples": 3, **options})
    return merge(request, activations(base))


def test_a_merge_learns_with_clip_skip(base: Base, pair: tuple[Adapter, Adapter]) -> None:
    """The layers that are left out get the fallback; the file says with what to draw."""
    sources = [Source(replace(one, metadata={"ss_clip_skip": "2"})) for one in pair]
    result = merged(base, *sources, clip_skip=2)
    last = max(row.layer for row in result.report.layers if row.layer.startswith("text_encoder"))
    methods = {row.layer: row.method for row in result.report.layers}
    left_out = [layer for layer, title in methods.items() if title == "Weighted sum"]
    assert left_out == [row for row in methods if row.startswith(last.rpartition(".self")[0])]
    notes = " ".join(result.report.notes)
    assert "outside the targets (attention, clip skip 2)" in notes
    assert "was trained with clip skip" not in notes

    fields = header(result.request, result, "mini", base.fingerprint)
    assert fields["ss_clip_skip"] == "2"
    again = replay(json.loads(fields[RECIPE_KEY]), [source.adapter for source in sources])
    assert again.clip_skip == 2
    usual = merged(base, *sources)
    assert "clip_skip" not in json.loads(header(usual.request, usual)[RECIPE_KEY])
    assert any("trained with clip skip 2, and learned" in note for note in usual.report.notes)
    assert distance(usual.adapter, result.adapter) > 1e-2


def test_a_clip_skip_that_the_encoder_does_not_have_is_refused(
    base: Base, pair: tuple[Adapter, Adapter]
) -> None:
    layers = {name.split(".")[4] for name in base.layers if ".encoder.layers." in name}
    for number in (len(layers) + 1, 13):
        with pytest.raises(MergeError, match=r"(?i)clip.skip must be .*1 to (\d+)"):
            merged(base, *map(Source, pair), clip_skip=number)


def test_emphasis_that_a_merge_does_not_weigh_is_reported(
    base: Base, pair: tuple[Adapter, Adapter]
) -> None:
    sources = Source(pair[0], prompts=("a (rn1 cat:1.3)",)), Source(pair[1], prompts=("a rn2 cat",))
    notes = python_api.merge(MergeRequest(sources, **SINGLE), base).report.notes
    told = [note for note in notes if "weights such as (word:1.3) act in pictures" in note]
    assert [note.partition(":")[0] for note in told] == ["random-1"]
