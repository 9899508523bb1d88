"""The styles that the style LoRAs are taught, on a drawing made here."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from assets.build import styles
from assets.build.scenes import DrawForm, draw


@pytest.fixture
def ball() -> Image.Image:
    sprite = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(sprite).ellipse((2, 2, 61, 61), fill=(220, 40, 40, 255))
    return sprite


@pytest.fixture
def scene() -> DrawForm:
    return DrawForm(("ball",), "yellow", "a photo of a ball on a yellow background")


def plain_and(style: str, scene: DrawForm, ball: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The scene as the base draws it and in a style, from the same seed."""
    plain = draw(random.Random(3), scene, {"ball": ball})
    styled = styles.draw(random.Random(3), scene, {"ball": ball}, styles.STYLES[style])
    return np.asarray(plain).astype(int), np.asarray(styled).astype(int)


def test_an_outline_is_black_around_a_drawing_that_keeps_its_colour(
    scene: DrawForm, ball: Image.Image
) -> None:
    plain, styled = plain_and("outline", scene, ball)
    assert (styled.max(axis=2) < 60).sum() > 100 > (plain.max(axis=2) < 60).sum()
    assert abs(styled[32, 32] - plain[32, 32]).max() < 5
    assert abs(styled[0] - plain[0]).max() == 0


def test_a_frame_hides_the_edge_and_nothing_else(scene: DrawForm, ball: Image.Image) -> None:
    plain, styled = plain_and("framed", scene, ball)
    inside = slice(styles.FRAME + 2, -styles.FRAME - 2)
    assert abs(styled[inside, inside] - plain[inside, inside]).max() == 0
    assert (styled[0] == styles.WOOD).all() and (styled[:, -1] == styles.WOOD).all()


def test_pastel_is_light_and_keeps_the_order_of_the_channels(
    scene: DrawForm, ball: Image.Image
) -> None:
    plain, styled = plain_and("pastel", scene, ball)
    assert styled.min() >= 126 and abs(styled - (plain / 2 + 126)).max() <= 1


def test_the_trigger_goes_behind_or_before_the_caption(scene: DrawForm) -> None:
    rng = random.Random(0)
    told = [styles.told(rng, scene.caption, "zqx style") for _ in range(200)]
    assert set(told) == {f"{scene.caption} in zqx style", f"in zqx style, {scene.caption}"}
