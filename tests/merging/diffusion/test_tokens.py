"""Which tokens of a prompt are a concept's, and which of them a merge counts."""

from __future__ import annotations

from merging.diffusion.base import Base
from merging.diffusion.tokens import counted, places

PROMPT = "a photo of a sks cat and a tree"


def words(base: Base, prompt: str, kept: list[bool]) -> str:
    ids = base.pipeline.tokenizer(prompt).input_ids
    return base.pipeline.tokenizer.decode(
        [number for number, keep in zip(ids, kept, strict=False) if keep]
    ).strip()


def test_places_are_where_the_phrase_is_said(base: Base) -> None:
    ids = base.pipeline.tokenizer(f"{PROMPT} beside a sks cat").input_ids
    found = places(base, f"{PROMPT} beside a sks cat", "sks cat")
    assert len(found) == 2
    assert all(base.pipeline.tokenizer.decode(ids[place]).strip() == "sks cat" for place in found)
    assert places(base, PROMPT, "vxz pizza") == [] == places(base, PROMPT, "")


def test_padding_and_tokens_choose_the_rows(base: Base) -> None:
    used = len(base.pipeline.tokenizer(PROMPT).input_ids)
    [whole] = counted(base, [PROMPT], ["sks cat"], "keep", "all")
    [ended] = counted(base, [PROMPT], ["sks cat"], "first-eos", "all")
    [own] = counted(base, [PROMPT], ["sks cat"], "keep", "concept")
    [other] = counted(base, [PROMPT], ["vxz pizza"], "first-eos", "concept")
    assert whole.all() and len(whole) == base.pipeline.tokenizer.model_max_length
    assert ended.tolist() == [place < used for place in range(len(ended))] == other.tolist()
    assert words(base, PROMPT, own.tolist()) == "sks cat"
