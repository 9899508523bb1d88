"""Textual inversions: files, the text encoder with them, and merges."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.diffusion.textual_inversion import using_embeddings
from merging.diffusion.tokens import phrase_positions, text_ids
from merging.embedding import Embedding
from merging.engine import merge
from merging.errors import MergeError
from merging.formats import read_embeddings, table
from merging.request import MergeRequest, Source
from tests.conftest import SHELF, SINGLE, distance
from tests.merging.formats.handmade import saved, vectors

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
WORD = "<zz-top>"


def embedding(word: str = WORD, seed: int = 0, count: int = 2) -> Embedding:
    return Embedding(word, vectors(seed, count), source=f"file-{seed}")


# --- files ----------------------------------------------------------------------------------------

SPELLINGS = {  # tensors → the word, "" where the file's name is it
    "diffusers": ({"<zz-top>": vectors()}, "<zz-top>"),
    "diffusers, a plain word": ({"zztop": vectors()}, "zztop"),
    "diffusers, one vector": ({"<z>": vectors(count=1)[0]}, "<z>"),
    "kohya": ({"emb_params": vectors()}, "my word"),
    "half precision": ({"emb_params": vectors().half()}, "my word"),
    "OneTrainer": ({"clip_l": vectors()}, "my word"),
    "A1111": (
        {"string_to_param.*": vectors(), "string_to_token.*": torch.tensor(265)},
        "my word",
    ),
    "a bundle": (
        {
            "bundle_emb.z.t.string_to_param.*": vectors(),
            "bundle_emb.z.t.string_to_token.*": torch.tensor(265),
        },
        "z.t",
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_read(tmp_path: Path, name: str) -> None:
    tensors, word = SPELLINGS[name]
    path = saved(tmp_path / "my word.safetensors", tensors)
    (actual,) = read_embeddings(path, table("mini"))
    assert (actual.word, actual.source) == (word, "my word")
    assert len(actual.sha256) == 64
    expected = max(tensors.values(), key=Tensor.numel).float().reshape(-1, 128)
    assert torch.equal(actual.vectors, expected)
    assert read_embeddings(path, table("mini"), word="other")[0].word == "other"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"emb_params": vectors(wide=768)}, "for Stable Diffusion 1.x (its vectors are 768 wide)"),
        ({"emb_params": vectors(wide=1024)}, "for Stable Diffusion 2"),
        ({"clip_g": vectors(wide=1280)}, "for SDXL"),
        ({"emb_params": vectors(wide=7)}, "is no textual inversion (its first key is emb_params)"),
        ({"a.weight": vectors(wide=128), "b": vectors()}, "is no textual inversion"),
        ({"<a>": vectors(), "<b>": vectors()}, "has 2 textual inversions (<a>, <b>), so it cannot"),
        ({"<a>": vectors() / 0}, "inversion mine has values that are not finite"),
    ],
)
def test_what_is_no_embedding_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], words: str
) -> None:
    path = saved(tmp_path / "a.safetensors", tensors)
    with pytest.raises(MergeError) as caught:
        read_embeddings(path, table("mini"), word="mine")
    assert words in str(caught.value)


def test_a_pickle_is_refused_and_its_remedy_works(tmp_path: Path) -> None:
    """As A1111 saves an embedding; the test makes the two calls that the error names."""
    pickled, mended = tmp_path / "a.pt", tmp_path / "a.safetensors"
    torch.save({"string_to_param": {"*": vectors()}, "name": "a", "step": 5}, pickled)
    with pytest.raises(MergeError) as caught:
        read_embeddings(pickled, table("mini"))
    assert "torch.load with weights_only=True" in str(caught.value)
    assert "safetensors.torch.save_file" in str(caught.value)
    content = torch.load(pickled, weights_only=True)
    save_file({"emb_params": content["string_to_param"]["*"]}, mended)
    (actual,) = read_embeddings(mended, table("mini"))
    assert torch.equal(actual.vectors, vectors())


# --- the model ------------------------------------------------------------------------------------


def copied(base: Base) -> StableDiffusionPipeline:
    """A pipeline with copies of text encoder and tokenizer, for diffusers' loader to change."""
    parts = dict(base.pipeline.components)
    parts |= {name: deepcopy(parts[name]) for name in ("text_encoder", "tokenizer")}
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)


@torch.no_grad()
def test_words_are_encoded_as_diffusers_does(tmp_path: Path, base: Base) -> None:
    """The file beside a merge, loaded by diffusers."""
    inversion = embedding(count=3)
    formats.write_embedding(inversion, tmp_path / "a.safetensors", base.table)
    pipe = copied(base)
    pipe.load_textual_inversion(tmp_path / "a.safetensors")
    prompts = [f"a photo of {WORD}, and a tree", f"{WORD}", "a cat"]
    expected = pipe.encode_prompt(prompts, "cpu", 1, False)[0]
    with using_embeddings(base, [inversion]):
        actual = base.pipeline.text_encoder(text_ids(base, prompts))[0]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def state(base: Base) -> tuple[dict[str, Tensor], str, list[int]]:
    tokenizer = base.pipeline.tokenizer
    weights = {key: value.clone() for key, value in base.pipeline.text_encoder.state_dict().items()}
    return weights, tokenizer.backend_tokenizer.to_str(), tokenizer(f"a {WORD} cat").input_ids


def test_the_model_is_as_before(base: Base) -> None:
    before, rows = state(base), base.pipeline.text_encoder.get_input_embeddings()
    with pytest.raises(RuntimeError), using_embeddings(base, [embedding()]):
        assert max(text_ids(base, [WORD])[0].tolist()) == len(rows.weight) + 1
        raise RuntimeError
    after = state(base)
    assert base.pipeline.text_encoder.get_input_embeddings() is rows
    assert not base.embedding_ids
    assert after[1:] == before[1:]
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())


def test_words_are_found_whole_in_any_case_the_longest_first(base: Base) -> None:
    with using_embeddings(
        base, [embedding("cat", 1, 1), embedding("Cat mug", 2, 3), embedding("<z>", 3, 1)]
    ):
        first = base.embedding_ids["cat"][0]
        ids = text_ids(base, ["a CAT in a category, a cat mug<z>"])[0].tolist()
        assert [number - first for number in ids if number >= first] == [0, 1, 2, 3, 4]
        assert phrase_positions(base, "a cat mug, a cat", ["cat mug", "cat"]) == [[1, 2, 3], [6]]
        assert phrase_positions(base, "a cat mug", ["cat"]) == [[]]


def test_a_prompt_full_of_vectors_is_too_long(base: Base) -> None:
    with (
        using_embeddings(base, [embedding(count=31)]),
        pytest.raises(MergeError, match="has 33 tokens"),
    ):
        text_ids(base, [WORD])


def test_vectors_of_another_width_are_refused(base: Base) -> None:
    other = Embedding("<x>", vectors(wide=768), source="big")
    with pytest.raises(MergeError, match="big: the textual inversion <x> has vectors 768 wide"):
        render(base, ["a cat"], [0], embeddings=[other], steps=1)


@pytest.mark.slow
def test_the_picture_changes_only_where_the_word_is_used(base: Base) -> None:
    """A word with the vectors of "pizza" draws a pizza; other prompts do not change."""
    rows = base.pipeline.text_encoder.get_input_embeddings().weight.detach()
    ids = text_ids(base, ["pizza"])[0][1:2]
    pizza = Embedding(WORD, rows[ids].clone(), source="pizza")

    def drawn(prompt: str, *words: Embedding) -> bytes:
        return render(base, [prompt], [0], embeddings=words, steps=3)[0].tobytes()

    plain = drawn("a photo of a cat")
    assert drawn("a photo of a cat", pizza) == plain
    assert drawn(f"a photo of a {WORD}", pizza) == drawn("a photo of a pizza") != plain
    assert drawn(f"a photo of a {WORD}") != drawn(f"a photo of a {WORD}", pizza)


# --- merges ---------------------------------------------------------------------------------------


def test_calibration_knows_the_words(base: Base, random_adapter: Callable[..., Adapter]) -> None:
    """A trigger phrase with other vectors gives another merge; an unused word does not."""
    one, two = random_adapter(1, marks=(".attn2.to_k",)), random_adapter(2, marks=(".attn2.to_k",))

    def merged(*words: Embedding) -> Adapter:
        sources = (Source(replace(one, embeddings=words), trigger=f"a {WORD}"), Source(two))
        request = MergeRequest(sources, targets="cross-attention", samples=4, **SINGLE)
        return merge(request, activations(base)).adapter

    plain, first, second = merged(), merged(embedding()), merged(embedding(seed=9))
    assert distance(first, plain) > 1e-3
    assert distance(first, second) > 1e-3
    assert distance(merged(embedding("<unused>")), plain) < 1e-6
