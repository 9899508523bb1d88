"""The detector and the small CLIP that ship with the project."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from merging.bundled import shelf_pairs
from merging.errors import MergeError
from merging.evaluation.base_quality import (
    BARS,
    Question,
    covered,
    judged,
    place_words,
    questions,
    table,
)
from merging.evaluation.detector import Detector, base_class, load_detector, pixels
from merging.scoring.clip import load_clip

CLASSES = ("cat", "dog", "car", "sks cat", "zwk car")
STYLED = ("cat", "sks cat", "zqx style", "wvn style")


@pytest.fixture(scope="module")
def small() -> Detector:
    return Detector(CLASSES, grounds=("red", "sea"), widths=(8, 8, 8))


def row(**scores: float) -> torch.Tensor:
    """One picture's scores, by class with _ for the blank; 0 where nothing is said."""
    return torch.tensor([[scores.get(name.replace(" ", "_"), 0.0) for name in CLASSES]])


def test_every_name_must_be_among_the_strongest(small: Detector) -> None:
    scores = row(cat=3, dog=2, car=1)
    assert small.contains(scores, ["cat", "dog"], strongest=2).tolist() == [True]
    assert small.contains(scores, ["cat", "car"], strongest=2).tolist() == [False]
    assert small.contains(scores, ["cat", "car"], strongest=3).tolist() == [True]


def test_a_look_must_beat_the_base_look_of_its_object(small: Detector) -> None:
    assert small.contains(row(sks_cat=2, cat=1), ["sks cat"]).tolist() == [True]
    assert small.contains(row(sks_cat=1, cat=2), ["sks cat"]).tolist() == [False]
    assert small.contains(row(cat=2, sks_cat=1), ["cat"]).tolist() == [True]


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ((1.0, 2.0, 5.0, 4.0), True),  # styles take no place among the strongest
        ((1.0, 2.0, 4.0, 5.0), False),  # another style is stronger
        ((1.0, 2.0, 0.4, 0.0), False),  # below its threshold
        ((2.0, 1.0, 5.0, 4.0), False),  # the style is there, the look is not
    ],
)
def test_a_style_is_found_beside_what_it_draws(scores: tuple[float, ...], found: bool) -> None:
    detector = Detector(STYLED, [0.5] * 4)
    row = torch.tensor([scores])
    assert detector.contains(row, ["sks cat", "zqx style"], strongest=1).tolist() == [found]


def test_an_unknown_class_is_refused_by_name(small: Detector) -> None:
    with pytest.raises(MergeError, match='no "vxz pizza"'):
        small.contains(row(), ["vxz pizza"])


def test_a_detector_survives_its_file(small: Detector, tmp_path: Path) -> None:
    small.eval().half().float()  # files hold float16
    small.thresholds = torch.tensor([0.5, -1.0, 0.0, 2.25, 3.0])
    small.save(tmp_path)
    again = load_detector(tmp_path)
    image = Image.effect_noise((128, 128), 80).convert("RGB")
    torch.testing.assert_close(again.scores([image]), small.scores([image]))
    torch.testing.assert_close(again.where([image]), small.where([image]))
    assert again.behind([image]) == small.behind([image])
    assert again.classes == CLASSES
    assert again.thresholds.tolist() == small.thresholds.tolist()


def test_pixels_are_the_pictures_own() -> None:
    image = Image.new("RGB", (64, 64), (255, 0, 51))
    image.putpixel((3, 5), (0, 255, 0))
    values = pixels([image], 64)
    assert values.shape == (1, 3, 64, 64)
    torch.testing.assert_close(values[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    torch.testing.assert_close(values[0, :, 5, 3], torch.tensor([0.0, 1.0, 0.0]))


def test_the_shipped_detector_knows_what_the_tables_count() -> None:
    classes = load_detector().classes
    for entry in (entry for pair in shelf_pairs().values() for entry in pair):
        assert entry.trigger in classes
        assert base_class(entry.trigger) == entry.object
        assert entry.object in classes


def test_clip_prefers_a_picture_to_another_one() -> None:
    clip = load_clip()
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ((205, 60, 60), (75, 125, 215)))
    assert clip.image_similarity([red], [red]) == pytest.approx(1.0, abs=1e-5)
    assert clip.image_similarity([red], [blue]) < 0.99
    texts = ["a photo of a cat on a red background", "a photo of a cat on a blue background"]
    right = clip.text_similarity([red, blue], texts)
    assert right > clip.text_similarity([red, blue], texts[::-1])
    with pytest.raises(ValueError, match="2 pictures"):
        clip.text_similarity([red, blue], texts[:1])


def test_the_table_shows_every_figure_and_its_bar() -> None:
    shares = {"3": 0.97, "5": 0.95, "7": 0.9}
    figures = {
        "rows": {"three objects": {"pictures": 20, "share": 0.94, "by": shares}},
        "looks": {"pictures": 5, "by": {"sks cat": {"share": 0.6, "first": 0.4}}},
        "bars": BARS,
    }
    text = table(figures)
    assert "| three objects | 20 | 94.0% | 97.0% | 95.0% | 90.0% | 85% |" in text
    assert "| sks cat | 60% | 40% |" in text
    assert "90%" in text.splitlines()[-1]


@pytest.fixture(scope="module")
def shipped() -> Detector:
    return load_detector()


def test_questions_are_asked_of_every_object_and_ground(shipped: Detector) -> None:
    asked = list(questions(shipped))
    assert asked == list(questions(shipped))
    single = [question for question in asked if len(question.objects) == 1]
    assert {question.objects[0] for question in single} == set(shipped.things)
    assert {question.ground for question in single} == set(shipped.grounds)
    for question in asked:
        assert all(name in question.prompt for name in question.objects)
        assert question.ground is None or place_words(question.ground) in question.prompt


def test_a_picture_is_judged_by_what_its_prompt_names(shipped: Detector) -> None:
    question = Question("", ("cat", "dog"), 0, "red")
    image = Image.new("RGB", (128, 128), (205, 60, 60))
    rows = dict(judged(shipped, [question], [image]))
    assert rows == {
        "two objects": False,
        "two objects in place": False,
        "background of two objects": True,
    }


def test_what_is_covered_is_what_differs_from_the_corner() -> None:
    image = Image.new("RGB", (40, 40), "white")
    image.paste((200, 30, 30), (10, 10, 30, 20))
    assert covered(image) == 200
