"""Clip skip: the text encoder without its last layers, as some fine-tunes were trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from merging.diffusion.base import Base
from merging.errors import MergeError


@contextmanager
def using_clip_skip(base: Base, clip_skip: int) -> Iterator[None]:
    """The base whose text encoder ends ``clip_skip`` − 1 layers early; 1 is all of them, as A1111.

    The final normalisation stays. MergeError for a number that the encoder does not have.
    """
    encoder = base.pipeline.text_encoder
    encoder = getattr(encoder, "text_model", encoder).encoder  # transformers 5 dropped that level
    layers = encoder.layers
    if not 1 <= clip_skip <= len(layers):
        raise MergeError(
            f"Clip skip must be 1 to {len(layers)} for the base {base.name}, not {clip_skip}."
        )
    assert base.modules  # named while all of them are there
    try:
        encoder.layers = layers[: len(layers) - clip_skip + 1]
        yield
    finally:
        encoder.layers = layers
