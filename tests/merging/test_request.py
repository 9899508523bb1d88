"""Requests: errors, calibration prompts, row sets and recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from merging.adapter import Adapter
from merging.calibration.prompts import (
    composed_prompts,
    concept_prompts,
    is_style,
    joint_prompt,
    lora_pairs,
    plain_prompts,
    tag_prompts,
)
from merging.calibration.row_sets import row_sets
from merging.engine import merge
from merging.errors import MergeError
from merging.export.recipe import header, recipe, replay
from merging.io.files import RECIPE_KEY
from merging.request import MergeRequest, Source


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> tuple[Source, Source]:
    one, two = random_adapter(1, marks=("q_proj",)), random_adapter(2, marks=("q_proj",))
    return Source(replace(one, sha256="a" * 64)), Source(replace(two, sha256="b" * 64), 0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "magic"}, "No method is called 'magic'; there are iteris"),
        ({"targets": "some"}, "targets must be one of cross-attention, attention, all"),
        ({"fallback": "max"}, "fallback must be one of mean, sum, zero"),
        ({"teacher": "none"}, "teacher must be one of single, tsv, sum, composed"),
        ({"rank": 0}, "rank must be exact, auto, full or a number from 1, not 0"),
        ({"samples": 0}, "samples must be a whole number from 1 to 1000, not 0"),
        ({"rows": 0}, "rows must be a whole number from 1 to 1000000, or all, not 0"),
        ({"ridge": 0.0}, "ridge must be a number above 0 and at most 1000000, not 0.0"),
        ({"cross_ridge": -1.0}, "cross_ridge must be a number from 0 to 1000000, not -1.0"),
        ({"mode": "half"}, "mode must be one of delta, delta.residual, full"),
        ({"weighting": "none"}, "weighting must be one of merged, delta, relative, uniform"),
        ({"padding": "drop"}, "padding must be one of keep, first-eos"),
        ({"tokens": "no"}, "tokens must be one of all, concept"),
        ({"preserve": -1.0}, "preserve must be a number from 0"),
        ({"rounds": 0}, "rounds must be a whole number from 1 to 100, not 0"),
    ],
)
def test_bad_options_are_refused(pair: tuple[Source, Source], options: dict, sentence: str) -> None:
    with pytest.raises(MergeError, match=sentence):
        MergeRequest(pair, **options)


def test_bad_sources_are_refused(pair: tuple[Source, Source]) -> None:
    one, two = pair
    nameless = Source(replace(one.adapter, trigger=""))
    alien = Source(replace(two.adapter, base="sd15"))
    cases = {
        "needs 1 to 16 LoRAs, not 0": (),
        "random-1: the same file is listed twice": (one, one),
        "random-1 is for mini, random-2 is for sd15": (one, alien),
        "random-1: strength 11": (replace(one, strength=11.0), two),
        "random-1: strength nan": (replace(one, strength=float("nan")), two),
        "random-1: no trigger phrase in the file": (nameless, two),
    }
    for sentence, sources in cases.items():
        with pytest.raises(MergeError, match=sentence):
            MergeRequest(sources)
    MergeRequest((nameless, two), method="sum")  # needs no phrase
    with_prompts = (replace(nameless, prompts=("a cat",)), two)
    MergeRequest(with_prompts, teacher="single")  # has prompts
    with pytest.raises(MergeError, match="“composed” needs a different trigger phrase"):
        MergeRequest(with_prompts, teacher="composed")
    MergeRequest(with_prompts[:1])  # has no pairs
    MergeRequest((nameless, two), method="sum", teacher="composed")  # uses no prompts


def test_prompts_name_their_concept_and_differ_by_seed() -> None:
    prompts = concept_prompts("sks cat", 50, seed=0)
    assert len(set(prompts)) > 45 and all("a sks cat" in prompt for prompt in prompts)
    assert prompts == concept_prompts("sks cat", 50, seed=0) != concept_prompts("sks cat", 50, 1)
    assert len(concept_prompts("x", 1000, 0)) == 1000
    assert not any("sks" in prompt for prompt in plain_prompts(50, 0))
    without = plain_prompts(1000, 0, ["Cat", "a dog"])
    assert not any(" cat" in prompt or "a dog" in prompt for prompt in without)
    assert any(" cat" in prompt for prompt in plain_prompts(1000, 0)), "only the phrase excludes it"
    assert len(plain_prompts(50, 0, ["a"])) == 50, "all of them have it, so none is left out"


def test_composed_prompts_name_two_concepts_in_every_order() -> None:
    names = ("sks cat", "vxz pizza", "zwk car")
    prompts = composed_prompts(names, 300, seed=0)
    named = [[name for name in names if name in prompt] for prompt in prompts]
    orders = {
        tuple(sorted(row, key=prompt.index)) for row, prompt in zip(named, prompts, strict=True)
    }
    assert len(orders) == 6 and all(len(order) == 2 for order in orders)


def test_prompts_show_things_in_a_style() -> None:
    assert all(" in ink style" in prompt for prompt in concept_prompts("ink style", 50, seed=0))
    prompts = composed_prompts(["sks cat", "ink style"], 300, seed=0)
    assert all("a sks cat" in prompt and "ink style" in prompt for prompt in prompts)
    three = composed_prompts(["sks cat", "ink style", "vxz pizza"], 300, seed=0)
    styled = [prompt for prompt in three if "ink style" in prompt]
    assert 0 < len(styled) < len(three)
    assert not any("a ink style" in prompt for prompt in three)
    two_styles = composed_prompts(["ink style", "wet style"], 9, seed=0)
    assert all(prompt.count("style") == 1 for prompt in two_styles), "one style of a known thing"
    assert joint_prompt(["ink style", "sks cat"]) == "a photo of a sks cat in ink style"
    assert not is_style("a stylish cat")


def test_composed_prompts_grow_with_the_concepts(pair: tuple[Source, Source]) -> None:
    third = replace(pair[0], adapter=replace(pair[0].adapter, sha256="c", trigger="rn3 cat"))
    sets = row_sets(MergeRequest((*pair, third), samples=10, teacher="composed"))
    assert [len(row_set.prompts) for row_set in sets if row_set.gated] == [15]


def test_row_sets_are_those_of_the_paper_and_more(pair: tuple[Source, Source]) -> None:
    sets = row_sets(MergeRequest(pair, samples=5, teacher="single"))
    assert [row_set.weights for row_set in sets] == [(1.0, 0.0), (0.0, 1.0)]
    more = row_sets(MergeRequest(pair, samples=5, teacher="composed"))
    assert [row_set.weights for row_set in more[2:]] == [(1.0, 1.0), (0.0, 0.0)]
    assert more[2].phrases == ("rn1 cat", "rn2 cat") and more[3].omega == 0.3
    by_user = row_sets(MergeRequest((replace(pair[0], prompts=("my cat",)), pair[1]), samples=5))
    assert by_user[0].prompts == ("my cat",)


def test_pairs_are_as_many_as_the_things_in_any_order() -> None:
    assert lora_pairs(["b fox", "a cat"]) == [(1, 0)] and lora_pairs(["a cat"]) == []
    assert lora_pairs(["d", "a", "c", "b"]) == [(1, 3), (3, 2), (2, 0), (0, 1)]
    assert lora_pairs(["ink style", "b fox", "a cat", "wet style"]) == [(2, 1), (2, 0), (1, 3)]
    assert lora_pairs(["ink style", "wet style"]) == []


def test_the_merge_of_a_pair_is_its_teacher(pair: tuple[Source, Source]) -> None:
    sets = row_sets(MergeRequest(pair, samples=5, teacher="tsv"))
    assert [row_set.name for row_set in sets[2:]] == ["composed: rn1 cat + rn2 cat", "preserved"]
    assert [row_set.weights for row_set in sets] == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]
    assert [row_set.omega for row_set in sets] == [1, 1, 4, 0.3] and not sets[2].gated
    third = replace(pair[0], adapter=replace(pair[0].adapter, sha256="c", trigger="rn3 cat"))
    three = row_sets(MergeRequest((*pair, third), samples=10, teacher="sum"))[3:6]
    assert [len(row_set.prompts) for row_set in three] == [5, 5, 5]
    assert sum(row_set.omega for row_set in three) == pytest.approx(4)
    assert all(
        sum(phrase in text for phrase in row_set.phrases) == 2
        for row_set in three
        for text in row_set.prompts
    )


def test_recipe_replays_the_request_whatever_the_order_of_files(
    pair: tuple[Source, Source],
) -> None:
    request = MergeRequest(pair, method="sum", rank=3, seed=5, fallback="sum", preserve=0.1)
    saved = json.loads(json.dumps(recipe(request)))
    again = replay(saved, [pair[1].adapter, pair[0].adapter])
    assert recipe(again) == recipe(request)
    assert [source.adapter.name for source in again.sources] == ["random-1", "random-2"]
    with pytest.raises(MergeError, match=r"needs random-2 \(SHA-256 bbbbbbbbbbbb"):
        replay(saved, [pair[0].adapter])
    with pytest.raises(MergeError, match="recipe is damaged"):
        replay({"method": "sum"}, [])


def test_header_names_authors_licences_and_tags_by_source(
    pair: tuple[Source, Source],
) -> None:
    tags = {"10_cat": {"rn1 cat": 20, "tree": 3}}
    metadata = {"modelspec.license": "CC-BY", "ss_tag_frequency": json.dumps(tags)}
    metadata |= {"trainedWords": '["rn1 cat", "fur"]', "activation text": "rn1 cat"}
    source = replace(pair[0], adapter=replace(pair[0].adapter, metadata=metadata))
    request = MergeRequest((source, pair[1]), method="sum")
    fields = header(request, merge(request))
    assert fields["modelspec.license"] == "random-1: CC-BY; random-2: not stated"
    assert json.loads(fields["ss_tag_frequency"]) == {"random-1": {"rn1 cat": 20, "tree": 3}}
    assert json.loads(fields["trained_words"]) == {"random-1": ["rn1 cat", "fur"]}
    assert "modelspec.author" not in fields, "no file names an author"


def test_header_has_recipe_triggers_and_sources(pair: tuple[Source, Source]) -> None:
    request = MergeRequest(pair, method="sum")
    fields = header(request, merge(request))
    assert json.loads(fields[RECIPE_KEY]) == json.loads(json.dumps(recipe(request)))
    assert fields["modelspec.trigger_phrase"] == "rn1 cat, rn2 cat"
    assert fields["modelspec.merged_from"] == "random-1, random-2"
    assert all(isinstance(value, str) for value in fields.values())


def test_captions_become_prompts_that_name_the_concept() -> None:
    tags = ["sks cat", "grass", "a SKS CAT on a sofa", " ", "grass"]
    assert tag_prompts("sks cat", tags) == (
        "sks cat",
        "a photo of a sks cat, grass",
        "a SKS CAT on a sofa",
    )
    assert tag_prompts(" ", tags) == ()
    assert tag_prompts("sks cat", ["cats (2)"]) == (r"a photo of a sks cat, cats \(2\)",)


def test_prompts_have_the_syntax_of_pictures(pair: tuple[Source, Source]) -> None:
    """Weights are left out, BREAK parts prompts, and an escaped bracket is one."""
    typed = ("a (rn1 cat:1.3) BREAK on [grass]", r"rn1 cat \(old\)")
    sources = (replace(pair[0], trigger="(rn1 cat:1.2)", prompts=typed), pair[1])
    one, *_ = row_sets(MergeRequest(sources))
    assert one.prompts == ("a rn1 cat", "on grass", "rn1 cat (old)")
    assert one.phrases == ("rn1 cat",)
    plain = MergeRequest((replace(pair[0], trigger="rn1 cat"), pair[1]))
    weighted = MergeRequest((replace(pair[0], trigger="(rn1 cat:1.2)"), pair[1]))
    assert row_sets(weighted) == row_sets(plain)
    with pytest.raises(MergeError, match="change from step to step"):
        MergeRequest((replace(pair[0], prompts=("a [cat:dog:0.5]",)), pair[1]))


def test_older_recipes_take_brackets_as_they_stand_there(pair: tuple[Source, Source]) -> None:
    adapters = [source.adapter for source in pair]
    prompts = ("a rn1 (cat) BREAK", "a [cat|dog]")
    sources = (replace(pair[0], trigger="saber (fate:1.2)", prompts=prompts), pair[1])
    saved = recipe(MergeRequest(pair)) | {"sources": recipe(MergeRequest(pair))["sources"]}
    assert "prompt_syntax" not in saved
    saved["sources"][0] |= {"trigger": sources[0].trigger, "prompts": list(prompts)}
    old = replay(saved, adapters)
    one, *_ = row_sets(old)
    assert one.prompts == ("a rn1 (cat) break", "a [cat|dog]")  # CLIP reads no capitals
    assert one.phrases == ("saber (fate:1.2)",)
    again = recipe(old)
    assert again["prompt_syntax"] == "A1111"
    assert row_sets(replay(again, adapters)) == row_sets(old)


def test_triggers_that_are_read_alike_are_refused(pair: tuple[Source, Source]) -> None:
    same = (replace(pair[0], trigger="Sks  cat"), replace(pair[1], trigger="(sks CAT:1.3)"))
    with pytest.raises(MergeError, match="needs a different trigger phrase for every LoRA"):
        MergeRequest(same)
