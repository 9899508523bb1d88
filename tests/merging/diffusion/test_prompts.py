"""A1111's syntax, long prompts and clip skip, beside compel's own prompts and the encoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from compel import Compel

from merging.adapter import Adapter, LoraLayer
from merging.diffusion.base import Base
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.prompts.encoder import encode, phrase_places, piece_count, token_row
from merging.diffusion.render import render
from merging.diffusion.textual_inversion import using_embeddings
from merging.diffusion.tokens import text_ids
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.text.syntax import parse_prompt

PARSED = {  # A1111's documentation of the syntax
    "a (word)": [("a ", 1), ("word", 1.1)],
    "a ((word))": [("a ", 1), ("word", 1.21)],
    "a [word]": [("a ", 1), ("word", 1 / 1.1)],
    "a (word:1.5) there": [("a ", 1), ("word", 1.5), (" there", 1)],
    "a (word:0.25)": [("a ", 1), ("word", 0.25)],
    "(big (cat:1.5)) (dog)": [("big ", 1.1), ("cat", 1.65), (" ", 1), ("dog", 1.1)],
    r"a \(word\)": [("a (word)", 1)],
    "a (word": [("a ", 1), ("word", 1.1)],
    "a word) :1.5)": [("a word) :1.5)", 1)],
    "BREAKFAST with B": [("BREAKFAST with B", 1)],
    "": [("", 1)],
}


@pytest.mark.parametrize("text", PARSED)
def test_emphasis_is_read_as_in_a1111(text: str) -> None:
    (part,) = parse_prompt(text).parts
    assert [one.text for one in part] == [words for words, _ in PARSED[text]]
    assert [one.weight for one in part] == pytest.approx([weight for _, weight in PARSED[text]])


def test_break_splits_a_prompt_and_plain_text_stays() -> None:
    parts = parse_prompt("a (cat:1.2) BREAK a dog").parts
    assert [[one.text for one in part] for part in parts] == [["a ", "cat"], ["a dog"]]
    assert parse_prompt("a (cat:1.2)  BREAK a dog") == "a cat a dog"
    assert parse_prompt("a cat,  on a bed ") == "a cat,  on a bed "
    assert parse_prompt("a cat").is_plain and not parse_prompt("a (cat)").is_plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a (cat:11)", "“cat” weighs 11 in the prompt"),
        ("a (cat:-1)", "“cat” weighs -1 in the prompt"),
        ("a [cat:dog:0.5]", "change from step to step, '\\[cat:dog:0.5\\]'"),
        ("a [cat|dog]", "change from step to step"),
    ],
)
def test_what_cannot_be_drawn_is_refused(text: str, message: str) -> None:
    with pytest.raises(MergeError, match=message):
        parse_prompt(text)


@torch.no_grad()
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a (cat:1.3) on a bed", "a (cat)1.3 on a bed"),
        ("a (cat:0.5) on a bed", "a (cat)0.5 on a bed"),
        ("a (black cat) on a [white bed]", "a (black cat)1.1 on a (white bed)0.909090909"),
    ],
)
def test_weights_are_compel_s(base: Base, ours: str, theirs: str) -> None:
    compel = Compel(tokenizer=base.pipeline.tokenizer, text_encoder=base.pipeline.text_encoder)
    found, expected = encode(base, [parse_prompt(ours)]), compel(theirs)
    torch.testing.assert_close(found, expected)
    assert (found - encode(base, [str(parse_prompt(ours))])).abs().max() > 0.01


@torch.no_grad()
def test_long_prompts_are_read_in_pieces(base: Base) -> None:
    """Every piece as if it stood alone; a word of a textual inversion stays one."""
    length = base.pipeline.tokenizer.model_max_length
    first, second = "a cat on a bed", "a dog in a garden"
    prompt = parse_prompt(f"{first} BREAK {second}")
    assert piece_count(base, prompt) == 2 and len(token_row(base, prompt)) == 2 * length
    expected = torch.cat(list(encode(base, [first, second])))
    torch.testing.assert_close(encode(base, [prompt], 2)[0], expected)
    short = encode(base, [prompt, "a cat"], 3)[1]
    torch.testing.assert_close(short, torch.cat(list(encode(base, ["a cat", "", ""]))))
    words = "cat " * (length - 2)
    assert piece_count(base, words) == 1 and piece_count(base, f"{words} dog") == 2
    with using_embeddings(base, [Embedding("mug", torch.ones(3, 128))]):
        assert token_row(base, f"{words} mug")[length + 1 : length + 4] == [
            *base.embedding_ids["mug"]
        ]
    with pytest.raises(MergeError, match="is longer than 8 times what this base reads"):
        piece_count(base, words * 9)


@pytest.mark.parametrize(
    "text",
    [
        "a photo of <mug>, a tree",
        "a (photo:1.2) of <mug>(, a tree:0.8)",
        "a photo BREAK BREAK of <mug>, [a tree]",
        "'quiet' " * 40 + "<mug>, a tree",
        "(<mug>:1.3) " + "BREAK tree, " * 3,
    ],
)
def test_a_phrase_has_its_places_in_the_row_of_a_prompt(base: Base, text: str) -> None:
    prompt, tokenizer = parse_prompt(text), base.pipeline.tokenizer
    row = token_row(base, prompt)
    trees = text.count("tree")
    mug, tree = phrase_places(base, prompt, ["<mug>", "tree"])
    names = "".join(tokenizer.convert_ids_to_tokens([row[k] for k in mug]))
    assert names.replace("</w>", "").removesuffix(",") == "<mug>"
    assert tokenizer.decode([row[k] for k in tree]).split() == ["tree"] * trees


@torch.no_grad()
def test_clip_skip_leaves_out_the_last_layers(base: Base) -> None:
    encoder, ids = base.pipeline.text_encoder, text_ids(base, ["a sks cat"])
    before = encoder(ids, output_hidden_states=True)
    with using_clip_skip(base, 2):
        skipped = encode(base, ["a sks cat"])
    torch.testing.assert_close(skipped, encoder.final_layer_norm(before.hidden_states[-2]))
    assert torch.equal(encode(base, ["a sks cat"]), before[0])
    for number in (0, 13):
        with (
            pytest.raises(MergeError, match="Clip skip must be 1 to"),
            using_clip_skip(base, number),
        ):
            pass


@pytest.mark.slow
def test_pictures_follow_the_syntax(base: Base) -> None:
    """Recorded as it was written; maps of phrases are as long as the prompt."""
    prompts = ["a cat", "a (cat:1.5)", "a cat BREAK a dog", "a cat"]
    plain, strong, long, again = (
        render(base, [text], [0], steps=2, phrases=["dog"])[0] for text in prompts
    )
    assert plain.tobytes() == again.tobytes()
    assert len({image.tobytes() for image in (plain, strong, long)}) == 3
    assert "a (cat:1.5)" in strong.info["iteris"] and "a (cat:1.5)" in strong.info["parameters"]
    assert not plain.info["maps"]["dog"].any() and long.info["maps"]["dog"].any()
    (skipped,) = render(base, ["a cat"], [0], steps=2, clip_skip=2)
    assert skipped.tobytes() != plain.tobytes()
    assert "Clip skip: 2" in skipped.info["parameters"]
    assert "clip_skip" not in plain.info["iteris"]


def test_compositions_by_triggers_ask_for_plain_prompts(base: Base) -> None:
    layer = LoraLayer(torch.zeros(128, 1), torch.zeros(1, 128), 1.0)
    name = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    one = Adapter("one", {name: layer}, "mini", trigger="sks cat")
    pair = [(one, 1.0), (replace(one, name="two", trigger="vxz pizza"), 1.0)]
    with pytest.raises(MergeError, match="looks for triggers among the tokens of a plain prompt"):
        render(base, ["a (sks cat:1.2) and a vxz pizza"], [0], adapters=pair, compose="gated")


@pytest.mark.parametrize("compose", ["gated", "tara"])
def test_compositions_by_triggers_refuse_equal_ones(base: Base, compose: str) -> None:
    """One inside the other is told apart (test_tokens.py); only capitals or spaces cannot be."""
    layer = LoraLayer(torch.zeros(128, 1), torch.zeros(1, 128), 1.0)
    name = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    one = Adapter("one", {name: layer}, "mini", trigger="sks cat")
    other = replace(one, name="two", trigger="SKS  Cat")
    with pytest.raises(MergeError, match=r"two have “sks cat” .*act as a sum"):
        render(base, ["a sks cat"], [0], adapters=[(one, 1.0), (other, 1.0)], compose=compose)
    render(base, ["a sks cat"], [0], adapters=[(one, 1.0), (other, 0.0)], steps=1, compose=compose)
