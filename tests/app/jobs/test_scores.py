"""Reference pictures: every drawn picture says how alike they are, or why it cannot."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.schemas.draw import DrawOrder, MissingScores, Picture
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.shell_commands import draw_commands
from merging.errors import MergeError
from merging.scoring.clip import load_clip
from merging.scoring.references import build_scorer
from tests.app.visits import added

PROMPT = "a photo of a sks cat"


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, ...]:
    files = tuple(tmp_path / f"photo-{i}.png" for i in range(2))
    for i, file in enumerate(files):
        Image.new("RGB", (90, 60), (200, 90 * i, 60)).save(file)
    return files


def test_scores_stand_in_the_captions(
    studio: Studio, pair: tuple[Path, Path], photos: tuple[Path, ...]
) -> None:
    session, cards = added(studio, pair)
    cat, pizza = map(SelectedFile.of, cards)
    cat = replace(cat, references=photos)
    order = DrawOrder((cat, pizza), PROMPT, steps=1, columns=("base", "sum"), count=2)
    found = [item for item in studio.draw(session, order) if isinstance(item, Picture)]
    pictures = order.arranged(found)
    images = [Image.open(picture.path).convert("RGB") for picture in pictures]
    scores = build_scorer(load_clip(), {"sks cat": photos}).score(images, [PROMPT] * 4)
    assert [picture.caption for picture in pictures] == [
        f"{title} · seed {seed} · {fit}"
        for fit, (title, seed) in zip(
            scores,
            [(title, seed) for title in ("Base model", "Loaded together") for seed in (0, 1)],
            strict=True,
        )
    ]
    (line, _) = draw_commands(order).splitlines()
    words = shlex.split(line)
    place = words.index("--reference")
    assert words[place + 1 : place + 3] == ["sks cat=photo-0.png", "sks cat=photo-1.png"]


def test_pictures_are_drawn_without_scores_too(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    letter = tmp_path / "letter.png"
    letter.write_text("dear friend")
    session, (card,) = added(studio, pair[:1])
    cat = replace(SelectedFile.of(card), references=(letter,))
    order = DrawOrder((cat,), PROMPT, steps=1, columns=("base",))
    items = [
        item for item in studio.draw(session, order) if isinstance(item, Picture | MissingScores)
    ]
    assert items[0] == MissingScores(
        "letter.png is no picture that can be read; take a PNG, JPEG or WebP."
    )
    (picture,) = items[1:]
    assert isinstance(picture, Picture) and picture.caption == "Base model"
    many = replace(order, picks=(replace(cat, references=(letter,) * 17),))
    with pytest.raises(MergeError, match="sks cat: at most 16 reference pictures are allowed"):
        studio.draw(session, many)
