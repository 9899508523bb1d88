"""The tokens of a phrase in a prompt, and the tokens whose rows count."""

from __future__ import annotations

import itertools
import random
import string

import pytest
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from merging.diffusion.base import Base
from merging.diffusion.loading.sd15_config import clip_tokenizer
from merging.diffusion.tokens import (
    counted_tokens,
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


def decoded(base: Base, ids: list[int], positions: list[int]) -> str:
    return base.pipeline.tokenizer.decode([ids[k + 1] for k in positions]).strip()


def test_positions_are_the_tokens_of_the_phrase(base: Base) -> None:
    ids = base.pipeline.tokenizer(f"{PROMPT} beside a sks cat").input_ids
    [actual] = phrase_positions(base, f"{PROMPT} beside a sks cat", ["sks cat"])
    assert decoded(base, ids, actual) == "sks cat sks cat"
    assert phrase_positions(base, PROMPT, ["vxz pizza", ""]) == [[], []]


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
    short, long, again = phrase_positions(base, prompt, ["sks cat", "sks cat girl", "SKS  cat"])
    assert decoded(base, ids, long) == "sks cat girl" and decoded(base, ids, short) == "sks cat"
    assert max(long) < min(short) and again == short


PHRASES = ["sks cat", "sks cat girl", "SKS cat's", "cat2", "cat", "a (fate) b", "ñandú", "<mug>"]
BETWEEN = [
    " ",
    ", ",
    " and a ",
    "-",
    "_",
    " 2",
    "s ",
    " (",
    ") ",
    "'s ",
    ",",
    ">",
    "' '",
    "n\u0303 ",
]


@pytest.mark.parametrize("seed", range(40))
def test_words_and_tokens_agree_on_what_a_prompt_names(base: Base, seed: int) -> None:
    draw = random.Random(seed)
    prompt = "".join(draw.choice(PHRASES) + draw.choice(BETWEEN) for _ in range(4))
    phrases = draw.sample(PHRASES, 4)
    positions = phrase_positions(base, prompt, phrases)
    assert phrases_in(prompt, phrases) == [
        phrase for phrase, found in zip(phrases, positions, strict=True) if found
    ]
    shared = [k for found in positions for k in found]
    assert len(shared) == len(set(shared))


SIGNS = [*string.punctuation, "…", "“", "”", "—", "、", "♥", "...", ""]


def piece_texts(base: Base, prompt: str) -> list[str]:
    """The letters and signs of every token, start and end left out."""
    tokenizer = base.pipeline.tokenizer
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    names = [name.removesuffix("</w>") for name in tokenizer.convert_ids_to_tokens(ids)]
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return [bytes(letters[letter] for letter in name).decode("latin-1") for name in names]


@pytest.fixture(scope="module")
def clip() -> CLIPTokenizer:
    """The tokenizer of Stable Diffusion, which joins more signs than the embedded base's."""
    return clip_tokenizer()


@pytest.mark.parametrize("seed", range(200))
def test_a_phrase_is_found_whatever_signs_stand_beside_it(
    base: Base, clip: CLIPTokenizer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(base.pipeline, "tokenizer", clip)
    draw = random.Random(seed)
    first, before = draw.choice(SIGNS), draw.choice(SIGNS)
    last, after = draw.choice([*SIGNS, "'s"]), draw.choice([*SIGNS, "'s"])
    phrase = f"{first}mug{last}"
    prompt = f"a photo of a {before}{phrase}{after} and a tree"
    begin = len(f"aphotoofa{before}".encode())
    end = begin + len(phrase.encode())
    places = itertools.accumulate(map(len, piece_texts(base, prompt)), initial=0)
    pairs = enumerate(itertools.pairwise(places))
    wanted = [k for k, (start, stop) in pairs if start < end and begin < stop]
    assert phrases_in(prompt, [phrase]) == [phrase]
    assert phrase_positions(base, prompt, [phrase]) == [wanted]
    [mask] = counted_tokens(base, [prompt], [phrase], "keep", "concept")
    assert mask.nonzero().flatten().tolist() == [k + 1 for k in wanted]


def test_a_token_of_two_phrases_is_the_first_one_s(
    base: Base, clip: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.pipeline, "tokenizer", clip)
    one, other = phrase_positions(base, "a mug!!cup", ["mug!", "!cup"])
    ids = base.pipeline.tokenizer("a mug!!cup").input_ids
    names = base.pipeline.tokenizer.convert_ids_to_tokens(ids)
    assert [names[k + 1] for k in one] == ["mug</w>", "!!</w>"]
    assert [names[k + 1] for k in other] == ["cup</w>"]


def test_long_texts_are_cut_between_words(base: Base) -> None:
    text = " ".join(f"word{number}" for number in range(60))
    pieces = split_long(base, text)
    assert " ".join(pieces) == text and len(pieces) > 1
    length = base.pipeline.tokenizer.model_max_length
    assert all(len(token_ids(base, piece)) <= length for piece in pieces)
    assert split_long(base, PROMPT) == [PROMPT]
