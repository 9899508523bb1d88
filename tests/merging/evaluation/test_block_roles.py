"""What blocks of a LoRA do: shares by drawing, on one picture of two steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from merging.blocks import blocks
from merging.bundled import SPLITS, listed_pairs
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.evaluation.detector import load_detector
from merging.evaluation.studies.block_roles import (
    GROUPS,
    Scene,
    Share,
    shares_of,
    table,
    tuning_loras,
)
from merging.runtime.progress import silent

pytestmark = pytest.mark.slow


def test_groups_that_change_nothing_or_everything(base: Base) -> None:
    """A LoRA of the text encoder and the upper half: without those blocks it is as with none."""
    lora = tuning_loras()[0]
    whole, places = lora.adapter(base.table), blocks(base.table)
    kept = {
        name: layer
        for name, layer in whole.layers.items()
        if places[name] in ("BASE", *GROUPS["up"])
    }
    scene = Scene(base, load_detector(), lora, pictures=1, steps=2)
    shares = {
        share.blocks: share for share in shares_of(scene, replace(whole, layers=kept), silent)
    }
    assert list(shares) == list(GROUPS)
    none = shares["none"]
    for name in ("down", "middle"):
        assert (shares[name].look, shares[name].layout) == (none.look, none.layout)
    assert (shares["up"].look, shares["up"].layout) == (1.0, 1.0)
    assert shares["medium (8²)"].look not in (none.look, 1.0)


def test_every_block_with_attention_is_in_one_level(base: Base) -> None:
    levels = [block for name in list(GROUPS)[-3:] for block in GROUPS[name]]
    sides = [block for name in ("down", "middle", "up") for block in GROUPS[name]]
    attention = {place for name, place in blocks(base.table).items() if ".attn2." in name}
    assert sorted(levels) == sorted(sides) == sorted(attention)


def test_loras_are_of_the_tuning_split_alone() -> None:
    test_split = {
        name for pair in listed_pairs() if pair.split == SPLITS[1] for name in pair.triggers
    }
    names = {lora.trigger for lora in tuning_loras()}
    assert "sks cat" in names and not names & test_split
    assert [lora.trigger for lora in tuning_loras(["vxz pizza"])] == ["vxz pizza"]
    with pytest.raises(MergeError, match=r"the trigger jvd fox; there are .*sks cat"):
        tuning_loras(["jvd fox"])


def test_table_has_means() -> None:
    rows = [
        Share(lora, name, look, 1 - look)
        for lora, look in (("sks cat", 0.0), ("vxz pizza", 0.5))
        for name in GROUPS
    ]
    assert "| up | 0.00 / 1.00 | 0.50 / 0.50 | 0.25 / 0.75 |" in table(rows).splitlines()
