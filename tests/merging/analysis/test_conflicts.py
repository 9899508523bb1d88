"""Where LoRAs meet: the numbers from factors against dense matrices, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace

import pytest
import torch

from merging.adapter import Adapter
from merging.analysis.conflicts import advice, conflicts
from merging.block_weights import block_weights
from merging.blocks import blocks
from merging.formats.layer_tables import table_of
from merging.request import Source

Make = Callable[..., Adapter]


@pytest.fixture(scope="module")
def two(random_adapter: Make) -> tuple[Adapter, Adapter]:
    """Of different ranks, the second also where the first is silent."""
    one = random_adapter(1, rank=4, marks=(".attn2.",))
    other = random_adapter(2, rank=6, marks=(".attn1.", ".attn2."), size=0.1)
    return one, other


def dense(one: Adapter, other: Adapter, wanted: list[str]) -> tuple[float, float, float]:
    """Cosine, overlap and ratio of some layers, from whole matrices and an SVD."""
    common, energies, seen = 0.0, [0.0, 0.0], [0.0, 0.0]
    for layer in wanted:
        pair = [
            own.layers[layer].delta().double() if layer in own.layers else None
            for own in (one, other)
        ]
        for i, delta in enumerate(pair):
            reader = pair[1 - i]
            if delta is None:
                continue
            energies[i] += float(delta.square().sum())
            if reader is not None:
                right = torch.linalg.svd(reader, full_matrices=False)[2]
                right = right[: other.layers[layer].rank if i == 0 else one.layers[layer].rank]
                seen[i] += float((delta @ right.T).square().sum())
        if pair[0] is not None and pair[1] is not None:
            common += float((pair[0] * pair[1]).sum())
    size = (energies[0] * energies[1]) ** 0.5
    return (
        common / size,
        (seen[0] * seen[1]) ** 0.5 / size,
        (energies[0] / energies[1]) ** 0.5,
    )


def test_numbers_are_those_of_the_whole_matrices(two: tuple[Adapter, Adapter]) -> None:
    (pair,) = conflicts([Source(two[0]), Source(two[1])])
    places = blocks(table_of(two[0]))
    every = list({**two[0].layers, **two[1].layers})
    for met in (pair.whole, *pair.blocks):
        wanted = [layer for layer in every if met.block in ("all", places.get(layer))]
        found = (met.cosine, met.overlap, met.ratio)
        assert found == pytest.approx(dense(*two, wanted), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "own",
    [
        {"strength": 0.7, "text_encoder": 0.5, "unet": -2.0},
        {"blocks": block_weights("MIDD")},
        {"strength": 2.0, "unet": 0.5, "blocks": block_weights("0.2,0,1,1,1,1,2,1,1,1,1,1")},
    ],
)
def test_strengths_of_parts_and_blocks_count(two: tuple[Adapter, Adapter], own: dict) -> None:
    """As they stand in the merge: the same as measuring the weighted adapter."""
    source = Source(two[0], **own)
    whole = replace(source.weighted_adapter, name=two[0].name)
    (wanted,) = conflicts([Source(whole, source.strength), Source(two[1])])
    (found,) = conflicts([source, Source(two[1])])
    both = [(pair.whole, *pair.blocks) for pair in (found, wanted)]
    for one, other in zip(*both, strict=True):
        assert one.block == other.block
        assert astuple(one)[1:] == pytest.approx(astuple(other)[1:])


def test_unrelated_changes_overlap_by_chance(two: tuple[Adapter, Adapter]) -> None:
    (pair,) = conflicts(list(map(Source, two)))
    assert pair.whole.overlap == pytest.approx(pair.whole.chance, rel=0.15)
    assert pair.whole.shared < 0.02
    (*_, said) = advice(pair)
    assert said.startswith("They hardly react to the same inputs")


def test_strengths_scale_the_ratio_alone(two: tuple[Adapter, Adapter]) -> None:
    (plain,) = conflicts(list(map(Source, two)))
    (loud,) = conflicts([Source(two[0], strength=-3.0), Source(two[1], strength=0.5)])
    assert loud.whole.ratio == pytest.approx(6 * plain.whole.ratio)
    assert loud.whole.overlap == pytest.approx(plain.whole.overlap)
    assert loud.whole.cosine == pytest.approx(-plain.whole.cosine)


def test_a_loud_one_is_reported_with_the_strength_that_evens_it(
    two: tuple[Adapter, Adapter],
) -> None:
    loud = replace(two[1], name="loud")
    sources = [Source(two[0]), Source(loud, strength=8.0)]
    (pair,) = conflicts(sources)
    said = advice(pair)[0]
    assert said.startswith("loud changes the model ")
    even = float(said.rpartition("strength ")[2].split()[0])
    (evened,) = conflicts([sources[0], Source(loud, strength=even)])
    assert evened.whole.ratio == pytest.approx(1, abs=0.05)


def test_the_same_change_twice_and_its_opposite_are_reported(two: tuple[Adapter, Adapter]) -> None:
    twin = replace(two[0], name="twin")
    (same,) = conflicts([Source(two[0]), Source(twin)])
    assert (same.whole.cosine, same.whole.overlap) == pytest.approx((1, 1))
    assert "much the same change (cosine 1.00)" in advice(same)[0]
    assert "react to the same inputs (overlap 100%" in advice(same)[1]
    (against,) = conflicts([Source(two[0]), Source(twin, strength=-1.0)])
    assert "partly undo each other (cosine -1.00)" in advice(against)[0]
    apart = [Source(two[0]), Source(two[1])]
    (unrelated,) = conflicts(apart)
    assert same.severity > 1 > unrelated.severity / unrelated.whole.ratio


def test_a_lora_at_zero_meets_nothing(two: tuple[Adapter, Adapter]) -> None:
    (pair,) = conflicts([Source(two[0], strength=0.0), Source(two[1])])
    assert advice(pair) == [f"{two[0].name} is at strength 0, so it meets nothing."]
    assert pair.whole.shared == 0


def test_every_pair_is_looked_at(two: tuple[Adapter, Adapter], random_adapter: Make) -> None:
    third = random_adapter(3)
    pairs = conflicts([Source(two[0]), Source(two[1]), Source(third)])
    assert [pair.names for pair in pairs] == [
        (two[0].name, two[1].name),
        (two[0].name, third.name),
        (two[1].name, third.name),
    ]
    assert conflicts([]) == conflicts([Source(third)]) == ()
