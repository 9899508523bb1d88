"""Models that a producer of LoRA files may change, and silence while it does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from copy import deepcopy

import pytest

from merging.diffusion.base import Base
from tests.merging.formats.producers import Models


@pytest.fixture
def models(base: Base) -> Models:
    """UNet and text encoder that a producer may change."""
    pipe = base.pipeline
    return {"unet": deepcopy(pipe.unet), "text_encoder": deepcopy(pipe.text_encoder)}


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
