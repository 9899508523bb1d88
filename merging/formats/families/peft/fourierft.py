"""FourierFT of peft: Δ is the real part of the inverse Fourier transform of a sparse spectrum.

The file has the numbers of the spectrum (out, in); where they stand is drawn at random from a seed
in PEFT's settings, which also have their scale (arXiv:2405.03003, equations 2 to 4).
"""

from __future__ import annotations

from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from merging.adapter import LoraLayer
from merging.errors import MergeError
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    is_pointwise,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "FourierFT"
MARKS = ("fourierft_spectrum",)
NEEDS_BASE = False
MAX_SEED = 2**63  # torch takes no larger one


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of the spectrum's shape, None if it fits."""
    shape = shapes["fourierft_spectrum"]
    if len(shape) == 1 and is_pointwise(weight[2:]) and shape[0] <= prod(weight):
        return None
    return wrong_shape(shapes, MARKS, weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: the rank depends on the spectrum."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The transformed spectrum as factors; MergeError if the settings lack its seed or scale."""
    import torch

    seed, scale = _settings(layer)
    values = layer.tensors["fourierft_spectrum"]
    spectrum = values.new_zeros(prod(layer.shape))
    spectrum[_places(len(values), len(spectrum), seed)] = values
    return factorise_matrix(scale * torch.fft.ifft2(spectrum.view(flat(layer.shape))).real)


def _places(count: int, size: int, seed: int) -> Tensor:
    """Where the numbers stand in the spectrum, row by row, as peft draws it."""
    import torch

    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]


def _settings(layer: LayerTensors) -> tuple[int, float]:
    """The seed of the places, and the scale."""
    seed: Any = layer.settings.get("random_loc_seed")
    scale = layer.settings.get("scaling")
    usable = isinstance(seed, int) and 0 <= seed < MAX_SEED
    if usable and isinstance(scale, int | float) and isfinite(scale):
        return seed, float(scale)
    raise MergeError(
        f"{layer.file} is FourierFT without a usable random_loc_seed and scaling, which say where "
        "its numbers belong; put the adapter_config.json that peft saved with it into the same "
        "folder."
    )
