"""The settings in a PNG: written, and read again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.png import Origin, UsedAdapter, parse_parameters, read_origin, save_png

PROMPT = "a photo of a cat on a green background"


def test_png_carries_its_parameters(
    base: Base, random_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    adapter = random_adapter(1)
    (image,) = render(base, [PROMPT], [7], adapters=[(adapter, 0.5)], steps=2, guidance=3.0)
    save_png(image, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as saved:
        text = saved.info["parameters"]
        assert saved.tobytes() == image.tobytes()
    assert text == (
        f"{PROMPT} <lora:random-1:0.5>\n"
        "Steps: 2, Sampler: DDIM, CFG scale: 3, Seed: 7, Size: 128x128, Model: mini"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_picture_can_be_drawn_again_from_its_png(
    base: Base, random_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    """With every setting but the weights read from the PNG."""
    adapter = replace(random_adapter(1), sha256="ab" * 32)
    settings = {"steps": 3, "guidance": 4.5, "negative": "blurry", "sampler": "Euler a",
                "size": "160x128", "clip_skip": 2}  # fmt: skip
    (first,) = render(base, [PROMPT], [7], adapters=[(adapter, 0.5)], **settings)
    save_png(first, tmp_path / "picture.png")
    origin, recipe = read_origin(tmp_path / "picture.png")
    assert recipe is None
    assert {key: getattr(origin, key) for key in settings} == settings
    assert origin.adapters == (UsedAdapter("random-1", 0.5, "rn1 cat", "ab" * 32),)
    (again,) = render(
        base,
        [origin.prompt],
        [origin.seed],
        adapters=[(adapter, origin.adapters[0].strength)],
        **{key: getattr(origin, key) for key in settings},
    )
    assert again.tobytes() == first.tobytes()


def test_settings_of_other_programs_are_read() -> None:
    origin = parse_parameters(
        "a cat, <lora:mine:0.8>\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, "
        "CFG scale: 7.5, Seed: 123, Size: 512x512, Model hash: abc, Model: sd15"
    )
    assert origin == Origin(
        "a cat,",
        "dog",
        123,
        20,
        7.5,
        "Euler a",
        base="sd15",
        size="512x512",
        adapters=(UsedAdapter("mine", 0.8),),
    )


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_other_files_than_png_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(MergeError, match=r"x\.png is no PNG picture"):
        read_origin(tmp_path / "x.png")


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"parameters": "a cat"},
        {"iteris": "[]"},
        {"iteris": '{"prompt": "a", "adapters": [1]}'},
        {"iteris": "[" * 60_000},
        {"iteris": '{"prompt": "' + "a" * 70_000 + '", "adapters": []}'},
    ],
)
def test_a_png_without_settings_is_refused(tmp_path: Path, texts: dict[str, str]) -> None:
    image = Image.new("RGB", (8, 8))
    image.info.update(texts)
    save_png(image, tmp_path / "mute.png")
    with pytest.raises(MergeError, match=r"mute\.png does not say how it was drawn"):
        read_origin(tmp_path / "mute.png")


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MergeError, match=r"x\.png cannot be written \(No space left"):
        save_png(Image.new("RGB", (8, 8)), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
