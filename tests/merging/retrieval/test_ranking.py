"""Which LoRAs fit a prompt: by its triggers, its words, and CLIP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import pytest

from merging.bundled import shelf
from merging.retrieval.ranking import Evidence, fits
from merging.retrieval.words import hits, things_in


@dataclass(frozen=True)
class Lora:
    trigger: str = ""
    name: str = ""
    words: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


CAT = Lora("sks cat", "my_pet", ("kitten",), ("sofa", "grass"))
GIRL = Lora("sks cat girl", "heroine")
PIZZA = Lora("vxz", "pizza-v2")
LORAS = (CAT, GIRL, PIZZA)
ALL = (*LORAS, *(Lora(lora.trigger, lora.file) for lora in shelf()))


def ranked(prompt: str, loras: Sequence[Lora] = LORAS, seen: Evidence | None = None) -> list:
    return [(loras[fit.place].trigger, fit.score) for fit in fits(prompt, loras, seen)]


@pytest.mark.parametrize("lora", ALL, ids=lambda lora: lora.trigger)
def test_a_lora_whose_trigger_is_in_the_prompt_comes_first(lora: Lora) -> None:
    others = [other for other in ALL if other.trigger != lora.trigger]
    prompt = f"sofa, grass, a cat girl, ({lora.trigger.upper()}:1.2), a pizza and a dog"
    first, *_ = fits(prompt, [*others, lora], lambda things, places: [1.0] * len(places))
    assert (first.place, first.score, first.named) == (len(others), 1.0, True)


def test_of_triggers_inside_one_another_the_longest_is_named() -> None:
    assert ranked("a photo of a sks cat girl")[0] == ("sks cat girl", 1.0)
    assert dict(ranked("a photo of a sks cat girl"))["sks cat"] < 1


def test_the_score_is_that_of_the_formula() -> None:
    """A word of the trigger 4/5, of the name 3/5, of the words 2/5, of a caption 1/5."""
    assert ranked("a cat") == [("sks cat", 0.8), ("sks cat girl", 0.8)]
    assert ranked("pizza") == [("vxz", 0.6)]
    assert ranked("a kitten on a sofa") == [("sks cat", round(1 - 0.6 * 0.8, 2))]
    assert ranked("pizza", [PIZZA], lambda things, places: [0.5]) == [
        ("vxz", round(1 - 0.4 * (1 - 0.9 * 0.5), 2))
    ]
    assert ranked("a photo of the background") == []


def test_scores_do_not_depend_on_the_order() -> None:
    def seen(things: Sequence[str], places: Sequence[int]) -> list[float]:
        return [len(order[place].name) / 20 for place in places]

    prompt, answers = "a cat on a sofa with a sks cat girl", []
    for order in permutations(LORAS):
        answers.append(sorted(ranked(prompt, order, seen)))
    assert len(answers[0]) == 3 and all(answer == answers[0] for answer in answers)


def test_equals_keep_their_order() -> None:
    loras = [Lora("aaa cat"), Lora("bbb cat")]
    assert [trigger for trigger, _ in ranked("a cat", loras)] == ["aaa cat", "bbb cat"]
    assert [trigger for trigger, _ in ranked("a cat", loras[::-1])] == ["bbb cat", "aaa cat"]


def test_things_end_at_signs_and_at_words_that_describe_nothing() -> None:
    assert things_in("A photo of a red car beside a dog, oil painting") == [
        "red car",
        "dog",
        "oil painting",
    ]
    assert things_in("a photo of the") == things_in("") == []


def test_the_best_field_of_a_word_counts() -> None:
    assert hits(CAT, ["cat", "pet", "kitt", "sofa", "ki", "dog"]) == [4, 3, 2, 1, 0, 0]


def test_clip_is_asked_only_of_those_that_are_not_named() -> None:
    asked: list[Sequence[int]] = []

    def seen(things: Sequence[str], places: Sequence[int]) -> list[float]:
        asked.append(places)
        return [0.0] * len(places)

    fits("a sks cat", LORAS, seen)
    fits("a vxz, a sks cat and a sks cat girl", LORAS, seen)
    assert asked == [[1, 2]]


def test_words_need_no_torch() -> None:
    code = "import sys, app.storage.library; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
