"""The tokens of a phrase in a prompt, and the tokens whose rows count."""

from __future__ import annotations

import random

import pytest

from merging.diffusion.base import Base
from merging.diffusion.tokens import (
    counted_tokens,
    phrase_places,
    phrase_positions,
    split_long,
    token_ids,
)
from merging.text.phrases import phrases_in

PROMPT = "a photo of a sks cat and a tree"


def masked_text(base: Base, prompt: str, mask: list[bool]) -> str:
    ids = base.pipeline.tokenizer(prompt).input_ids
    return base.pipeline.tokenizer.decode(
        [token for token, counts in zip(ids, mask, strict=False) if counts]
    ).strip()


def test_positions_are_the_tokens_of_the_phrase(base: Base) -> None:
    ids = base.pipeline.tokenizer(f"{PROMPT} beside a sks cat").input_ids
    actual = phrase_positions(base, f"{PROMPT} beside a sks cat", "sks cat")
    assert len(actual) == 2
    assert all(base.pipeline.tokenizer.decode(ids[place]).strip() == "sks cat" for place in actual)
    assert phrase_positions(base, PROMPT, "vxz pizza") == [] == phrase_positions(base, PROMPT, "")


def test_padding_and_tokens_choose_the_rows(base: Base) -> None:
    used = len(base.pipeline.tokenizer(PROMPT).input_ids)
    [whole] = counted_tokens(base, [PROMPT], ["sks cat"], "keep", "all")
    [ended] = counted_tokens(base, [PROMPT], ["sks cat"], "first-eos", "all")
    [concept] = counted_tokens(base, [PROMPT], ["sks cat"], "keep", "concept")
    [other] = counted_tokens(base, [PROMPT], ["vxz pizza"], "first-eos", "concept")
    assert whole.all() and len(whole) == base.pipeline.tokenizer.model_max_length
    assert ended.tolist() == [place < used for place in range(len(ended))] == other.tolist()
    assert masked_text(base, PROMPT, concept.tolist()) == "sks cat"


def test_tokens_of_a_longer_phrase_belong_to_it_alone(base: Base) -> None:
    prompt = "a sks cat girl and a sks cat"
    ids = base.pipeline.tokenizer(prompt).input_ids
    short, long, again = phrase_places(base, ids, ["sks cat", "sks cat girl", "SKS  cat"])
    assert [base.pipeline.tokenizer.decode(ids[place]).strip() for place in long] == [
        "sks cat girl"
    ]
    assert len(short) == 1 and short[0].start >= long[0].stop
    assert again == short


PHRASES = ["sks cat", "sks cat girl", "SKS cat's", "cat2", "cat", "a (fate) b", "saber", "ñandú"]
BETWEEN = [" ", ", ", " and a ", "-", "_", " 2", "s ", " (", ") ", "'s "]


@pytest.mark.parametrize("seed", range(40))
def test_words_and_tokens_agree_on_what_a_prompt_names(base: Base, seed: int) -> None:
    draw = random.Random(seed)
    prompt = "".join(draw.choice(PHRASES) + draw.choice(BETWEEN) for _ in range(4))
    phrases = draw.sample(PHRASES, 4)
    places = phrase_places(base, token_ids(base, prompt), phrases)
    assert phrases_in(prompt, phrases) == [
        phrase for phrase, found in zip(phrases, places, strict=True) if found
    ]
    assert phrases_in(f"{prompt}, <mug>, a tree", ["<mug>"]) == ["<mug>"]


def test_long_texts_are_cut_between_words(base: Base) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    pieces = split_long(base, text)
    assert " ".join(pieces) == text and len(pieces) > 1
    length = base.pipeline.tokenizer.model_max_length
    assert all(len(token_ids(base, piece)) <= length for piece in pieces)
    assert split_long(base, PROMPT) == [PROMPT]
