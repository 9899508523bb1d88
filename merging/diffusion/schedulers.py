"""Samplers by their A1111 names, as diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.options import Sampler

_SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "DDIM": (DDIMScheduler, {"clip_sample": False}),
    "Euler": (EulerDiscreteScheduler, {}),
    "Euler a": (EulerAncestralDiscreteScheduler, {}),
    "DPM++ 2M": (DPMSolverMultistepScheduler, {}),
    "DPM++ 2M Karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "UniPC": (UniPCMultistepScheduler, {}),
}


@contextmanager
def using_sampler(base: Base, sampler: Sampler) -> Iterator[None]:
    """The base with this sampler; MergeError for an unknown name."""
    if sampler not in _SCHEDULERS:
        raise MergeError(f"The sampler must be {', '.join(get_args(Sampler))}, not {sampler!r}.")
    kind, settings = _SCHEDULERS[sampler]
    usual = base.pipeline.scheduler
    base.pipeline.scheduler = kind.from_config(usual.config, **settings)
    try:
        yield
    finally:
        base.pipeline.scheduler = usual
