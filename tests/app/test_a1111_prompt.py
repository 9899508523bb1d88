"""A prompt pasted from A1111 fills the strengths of the files that are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.a1111_prompt import apply_prompt
from app.schemas.merge import SelectedFile
from merging.errors import MergeError

CAT, PIZZA = (
    SelectedFile(Path("a"), "sks-cat", trigger="sks cat"),
    SelectedFile(Path("b"), "vxz-pizza", 0.3),
)


def test_strengths_parts_and_blocks_are_filled_in_by_name() -> None:
    found = apply_prompt(
        "a cat <lora:SKS-Cat:0.7:lbw=midd>, and a pizza <lora:food/vxz-pizza.safetensors:0.4:0.9>",
        [CAT, PIZZA],
    )
    cat, pizza = found.picks
    assert (cat.strength, cat.text_encoder, cat.unet, cat.blocks) == (0.7, None, None, "MIDD")
    assert (pizza.text_encoder, pizza.unet, pizza.blocks) == (0.4, 0.9, "")
    assert cat.trigger == "sks cat"
    assert found.prompt == "a cat , and a pizza"
    assert found.notes == ("Strengths filled in for sks-cat, vxz-pizza.",)


def test_what_is_not_loaded_and_what_is_not_called_is_reported() -> None:
    found = apply_prompt("<lora:sks-cat:1> <lora:mug:0.5> <lora:sks-cat:0.2>", [CAT, PIZZA])
    assert found.picks[0].strength == 0.2
    assert found.picks[1] == PIZZA
    assert found.notes[1:] == (
        "Not loaded, add the file and paste again: mug.",
        "Not in the prompt, left as they are: vxz-pizza.",
        "More than once in the prompt, the last counts: sks-cat.",
    )


def test_settings_below_a_prompt_are_left_out_and_reported() -> None:
    text = "a cat <lora:sks-cat:1>\nNegative prompt: ugly <lora:bad:1>\nSteps: 20, Seed: 1"
    found = apply_prompt(text, [CAT])
    assert found.prompt == "a cat"
    assert found.notes[-1] == "The settings below the prompt were left out."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat", "no LoRA in the prompt"),
        ("<lora:sks-cat:1:lbw=MIDDLE>", "neither a preset"),
        ("<lora:sks-cat:much>", "no number"),
    ],
)
def test_what_cannot_be_taken_is_refused(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        apply_prompt(text, [CAT])
