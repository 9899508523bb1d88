"""The pictures that the embedded base is trained on: captions, layouts and styles."""

from __future__ import annotations

import gzip
import json
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from assets.build.vector import concepts, drawings, places, scenes, styles

RED, BLUE = (220, 40, 40), (40, 60, 220)


def ball(colour: tuple[int, int, int]) -> Image.Image:
    sprite = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(sprite).ellipse((2, 2, 157, 157), fill=colour)
    return sprite


SPRITES = {"ball": ball(RED), "balloon": ball(BLUE)}


def middle(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Row and column at which the pixels of about this colour lie, on average."""
    near = np.abs(np.asarray(picture).astype(int) - colour).sum(axis=2) < 60
    assert near.any()
    rows, columns = near.nonzero()
    return rows.mean(), columns.mean()


def composed(relation: str, seed: int) -> tuple[scenes.Scene, Image.Image]:
    rng = random.Random(seed)
    scene = scenes.compose(rng, ("ball", "balloon"), relation=relation, ground="white")
    return scene, scenes.draw(rng, scene, SPRITES)


@pytest.mark.parametrize("seed", range(6))
def test_the_first_object_stands_left_on_top_or_behind(seed: int) -> None:
    _, beside = composed("beside", seed)
    assert middle(beside, RED)[1] < middle(beside, BLUE)[1]
    for relation in ("on", "behind"):
        scene, picture = composed(relation, seed)
        assert middle(picture, RED)[0] < middle(picture, BLUE)[0]
        assert {"ball", "balloon"} <= set(scene.caption.replace(",", "").split())


@pytest.mark.parametrize("ground", scenes.GROUNDS)
def test_a_caption_that_names_a_ground_names_the_one_that_is_drawn(ground: str) -> None:
    rng = random.Random(1)
    captions = [scenes.compose(rng, ("ball",), ground=ground).caption for _ in range(40)]
    words = places.PLACES[ground].words if ground in places.PLACES else (f" {ground} background",)
    named = [caption for caption in captions if any(word in caption for word in words)]
    assert 10 < len(named) < 40
    others = [name for name in scenes.COLOURS if name != ground]
    assert not any(f" {name} background" in caption for caption in captions for name in others)


@pytest.mark.parametrize("name", drawings.SETS)
def test_every_object_is_in_every_set_of_drawings(name: str) -> None:
    packed = (drawings.FOLDER / f"{name}.json.gz").read_bytes()
    assert set(json.loads(gzip.decompress(packed))["bodies"]) == set(drawings.OBJECTS)


@pytest.mark.parametrize("name", styles.STYLES)
def test_a_style_redraws_the_scene_and_keeps_its_hue(name: str) -> None:
    scene = scenes.compose(random.Random(3), ("ball",), ground="yellow")
    plain = np.asarray(scenes.draw(random.Random(3), scene, SPRITES)).astype(int)
    drawn = styles.draw(random.Random(3), scene, SPRITES, styles.STYLES[name])
    styled = np.asarray(drawn).astype(int)
    assert np.abs(styled - plain).sum(axis=2).max() > 100
    reddest = styled[..., 0] - styled[..., 2]
    assert reddest[40:90, 30:98].mean() > 40


def test_the_trigger_goes_behind_or_before_the_caption() -> None:
    rng, caption = random.Random(0), "a photo of a ball"
    captions = {styles.captioned(rng, caption, "zqx style") for _ in range(200)}
    assert captions == {f"{caption} in zqx style", f"in zqx style, {caption}"}


def test_the_shelf_shares_no_lora_between_tuning_and_test() -> None:
    used = {split: set() for split in ("tuning", "test")}
    for together in concepts.TOGETHER:
        used[together.split] |= set(together.triggers)
    assert not used["tuning"] & used["test"]
    assert used["tuning"] | used["test"] == set(concepts.KNOWN)
