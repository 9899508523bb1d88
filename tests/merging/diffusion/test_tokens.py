"""The tokens of a phrase in a prompt, and the tokens whose rows count."""

from __future__ import annotations

from merging.diffusion.base import Base
from merging.diffusion.tokens import counted_tokens, phrase_places, phrase_positions

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
