"""Scores of pictures: how well they fit their prompts and reference pictures of the concepts.

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
class PictureScores:
    """The scores of one picture."""

    text: float  # text-align with its prompt: 0 to 2.5
    image: Mapping[str, float]  # concept → image-align with its references: −1 to 1

    def __str__(self) -> str:
        """``text-align 0.71 · sks cat 0.83``."""
        by_concept = [f"{concept} {score:.2f}" for concept, score in self.image.items()]
        return " · ".join([f"text-align {self.text:.2f}", *by_concept])


@dataclass(frozen=True)
class PictureScorer:
    """A CLIP with the reference pictures of each concept."""

    clip: Clip
    references: Mapping[str, Tensor]  # concept → unit embeddings (pictures, width)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[PictureScores]:
        """The scores of each picture, with its own prompt and with every concept."""
        pictures = self.clip.image_embeddings(images)
        texts = self.clip.text_embeddings(prompts)
        return [
            PictureScores(
                text_align(picture, text),
                {name: image_align(picture, known) for name, known in self.references.items()},
            )
            for picture, text in zip(pictures, texts, strict=True)
        ]


def build_scorer(clip: Clip, references: Mapping[str, Sequence[Path]]) -> PictureScorer:
    """Embed the reference pictures of each concept; MergeError for one that cannot be read."""
    embeddings: dict[str, Tensor] = {}
    for concept, files in references.items():
        if len(files) > MOST_PICTURES:
            raise MergeError(
                f"{concept}: {len(files)} reference pictures; at most {MOST_PICTURES} are taken."
            )
        # one at a time, so that only one large picture is in memory
        embeddings[concept] = torch.cat(
            [clip.image_embeddings([open_reference(file)]) for file in files]
        )
    return PictureScorer(clip, embeddings)


def pictures_in(path: Path, label: str = "") -> tuple[Path, ...]:
    """A picture, or all pictures of a folder, sorted; MergeError, after ``label``, if none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    pictures = tuple(
        file for file in files if file.suffix.lower() in PICTURE_ENDINGS and file.is_file()
    )
    if not pictures:
        raise MergeError(
            f"{label + ': ' if label else ''}{path} is neither a picture nor a folder with "
            f"pictures ({', '.join(PICTURE_ENDINGS)})."
        )
    return pictures


def open_reference(file: Path) -> Image.Image:
    """A reference picture in RGB, turned by its EXIF tag; MergeError if unreadable or too large."""
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
        raise MergeError(f"{file.name} no longer exists; add it again.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MergeError(
            f"{file.name} is no picture that can be read; take a PNG, JPEG or WebP."
        ) from error
