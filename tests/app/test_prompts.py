"""Names, prompts and ranks as a visitor types them."""

from __future__ import annotations

import pytest

from app.examples import examples
from app.prompts import example_prompts, split_prompts, suggested_prompt, suggestions
from app.ui.html.fragments import chips
from merging import formats
from merging.base_models import base_model
from merging.errors import MergeError
from merging.io.file_names import file_stem


@pytest.mark.parametrize(
    ("triggers", "base", "expected"),
    [
        (
            ["sks cat", "vxz pizza"],
            "mini",
            "a photo of a sks cat and a vxz pizza on a green background\n"
            "a photo of a sks cat on a green background\n"
            "a photo of a vxz pizza on a green background",
        ),
        (
            ["sks cat", " ", "art of x"],
            "sd15",
            "a photo of a sks cat and an art of x\na photo of a sks cat\na photo of an art of x",
        ),
        (["a", "b", "c", "d"], "sd15", "a photo of an a, a b, a c and a d"),
        (
            ["ink style", "sks cat"],
            "sd15",
            "a photo of a sks cat in ink style\na photo of a house in ink style\n"
            "a photo of a sks cat",
        ),
        (["sks cat"], "sd15", "a photo of a sks cat"),
        (["", ""], "mini", ""),
    ],
)
def test_the_suggested_prompts_name_every_concept_together_and_alone(
    triggers: list[str], base: str, expected: str
) -> None:
    assert suggested_prompt(triggers, base) == expected
    texts, examples = suggestions(triggers, base), example_prompts(triggers, base)
    assert [text.splitlines()[0] for text in texts] == [*examples]
    places = base_model(base).places
    for i, text in enumerate(texts):
        place = places[i * len(places) // len(texts)]
        assert all(line.endswith(place) for line in text.splitlines())
    assert len({*examples}) == len(examples) >= 4
    for trigger in filter(str.strip, triggers):
        assert all(trigger in example for example in examples)


def test_a_suggestion_that_stands_there_stays() -> None:
    triggers = ["sks cat", "vxz pizza"]
    texts = suggestions(triggers, "mini")
    assert [suggested_prompt(triggers, "mini", text) for text in texts] == [*texts]
    for other in ("", "a tree", texts[1].upper()):
        assert suggested_prompt(triggers, "mini", other) == texts[0]
    assert suggested_prompt([" "], "mini", texts[1]) == ""


def test_a_click_on_an_example_draws_what_its_card_shows() -> None:
    for example in examples():
        assert example.comparison is not None
        triggers = [formats.read(file).trigger for file in example.files]
        first, *alone = suggested_prompt(triggers, "mini", example.comparison.prompt).splitlines()
        assert first == example.comparison.prompt
        assert len(alone) == len(triggers)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["sks cat", "vxz pizza"], "iteris_sks-cat+vxz-pizza"),
        (["../../etc/passwd", "Crème Brûlée!"], "iteris_etc-passwd+creme-brulee"),
        (["猫", "x" * 99], "iteris_lora+" + "x" * 32),
    ],
)
def test_file_names_are_plain(labels: list[str], expected: str) -> None:
    assert file_stem("iteris", labels) == expected


def test_long_lists_keep_a_name_that_file_systems_take() -> None:
    assert len(file_stem("iteris", ["a" * 32] * 16)) < 100


def test_own_prompts_go_to_the_concepts_they_name() -> None:
    typed = "a SKS cat\n\na vxz pizza on a plate\nsks cat and vxz pizza\n"
    cat, pizza, nameless = split_prompts(["sks cat", "vxz pizza", ""], typed)
    assert cat == ("a SKS cat", "sks cat and vxz pizza")
    assert pizza == ("a vxz pizza on a plate", "sks cat and vxz pizza")
    assert nameless == ()


def test_a_trigger_inside_another_is_distinguished() -> None:
    typed = "a Sks Cat Girl\na (sks cat:1.2) on a bed"
    assert split_prompts(["sks cat", "(sks cat girl)"], typed) == [
        ("a (sks cat:1.2) on a bed",),
        ("a Sks Cat Girl",),
    ]
    html = chips("a (sks cat) girl", ["sks cat", "(sks cat girl:1.1)"])
    assert [said in html for said in ("sks cat is not in", "(sks cat girl:1.1) is not in")] == [
        True,
        False,
    ]


def test_a_prompt_that_names_no_concept_is_reported() -> None:
    with pytest.raises(MergeError, match=r"“a tree” contains none of the triggers \(sks cat\)"):
        split_prompts(["sks cat"], "a sks cat\na tree")
