"""How well pictures fit: their prompts, and pictures of the real concepts, where there are some.

The scores are those of the benchmark: `text_align` and `image_align` of merging/scoring/clip.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from merging.errors import MergeError
from merging.io.files import PICTURE_ENDINGS
from merging.scoring.clip import Clip, image_align, text_align

FORMATS = ["PNG", "JPEG", "WEBP"]
MOST_BYTES, MOST_PIXELS = 64 << 20, 80_000_000  # of one reference picture
MOST_PICTURES = 64  # of one concept


@dataclass(frozen=True)
class Fit:
    """The scores of one picture."""

    text: float  # with its prompt: 0 to 2.5
    image: Mapping[str, float]  # concept → with the pictures of it: −1 to 1

    def __str__(self) -> str:
        """``text-align 0.71 · sks cat 0.83``."""
        each = [f"{concept} {score:.2f}" for concept, score in self.image.items()]
        return " · ".join([f"text-align {self.text:.2f}", *each])


@dataclass(frozen=True)
class Judge:
    """Who says how well a picture fits."""

    clip: Clip
    references: Mapping[str, Tensor]  # concept → unit embeddings (pictures, width)

    def fits(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[Fit]:
        """The scores of each picture, with its own prompt and with every concept."""
        pictures = self.clip.image_embeddings(images)
        texts = self.clip.text_embeddings(prompts)
        return [
            Fit(
                text_align(picture, text),
                {name: image_align(picture, those) for name, those in self.references.items()},
            )
            for picture, text in zip(pictures, texts, strict=True)
        ]


def judge(clip: Clip, references: Mapping[str, Sequence[Path]]) -> Judge:
    """One who has seen these pictures of each concept; MergeError names one that cannot be read."""
    seen: dict[str, Tensor] = {}
    for concept, files in references.items():
        if len(files) > MOST_PICTURES:
            raise MergeError(
                f"{concept}: {len(files)} reference pictures; at most {MOST_PICTURES} are taken."
            )
        # one after the other, so that never more than one large picture is in memory
        seen[concept] = torch.cat([clip.image_embeddings([opened(file)]) for file in files])
    return Judge(clip, seen)


def pictures_in(place: Path, told: str = "") -> tuple[Path, ...]:
    """A picture, or all of a folder by name; MergeError, after ``told``, where there is none."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = tuple(
        file for file in files if file.suffix.lower() in PICTURE_ENDINGS and file.is_file()
    )
    if not found:
        raise MergeError(
            f"{told + ': ' if told else ''}{place} is no picture, and no folder that holds one "
            f"({', '.join(PICTURE_ENDINGS)})."
        )
    return found


def opened(file: Path) -> Image.Image:
    """A reference picture in RGB, the right way up; MergeError for what is none, or too large."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise MergeError(f"{file.name} is larger than {MOST_BYTES >> 20} MiB; shrink it.")
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise MergeError(
                    f"{file.name} has {image.width} × {image.height} pixels; shrink it to a few "
                    "thousand a side."
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise MergeError(f"{file.name} is no longer there; add it again.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MergeError(
            f"{file.name} is no picture that can be read; take a PNG, JPEG or WebP."
        ) from error
