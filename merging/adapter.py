"""The canonical form of a LoRA, into which all files are read and which all methods use.

Names are those of diffusers, with the part in front: ``unet.down_blocks.0…attn2.to_k`` and
``text_encoder.text_model.encoder.layers.0.self_attn.q_proj`` (with ``text_model.`` whatever the
transformers release calls its modules).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from merging.embedding import Embedding
from merging.text.syntax import plain_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def factor_energy(up: Tensor, down: Tensor) -> float:
    """‖up @ down‖² from the small products of each factor with itself: no (out, in) matrix.

    Give float64: products of half precision overflow.
    """
    return float(((up.T @ up) * (down @ down.T)).sum().clamp_min(0))


@dataclass(frozen=True)
class LoraLayer:
    """Low-rank change of one layer: Δ = (alpha / rank) · up @ down.

    Kernels of convolutions are flattened: ``in`` is channels × kernel height × kernel width.
    """

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in)
    alpha: float  # as in the file; the rank is that of the factors, whatever a header says

    @property
    def rank(self) -> int:
        """Inner dimension of the factors."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @cached_property
    def energy(self) -> float:
        """‖Δ‖²."""
        return self.scale**2 * factor_energy(self.up.double(), self.down.double())

    def delta(self) -> Tensor:
        """Δ as an (out, in) matrix, in the dtype of the factors."""
        return self.scale * (self.up @ self.down)


@dataclass(frozen=True)
class VectorDelta:
    """Change of the vectors of one module: a layer's bias, or a normalisation's weight and bias.

    Fields and variables with mappings of module → VectorDelta are called ``shifts``.
    """

    weight: Tensor | None = None  # (channels,), of a normalisation; None: unchanged
    bias: Tensor | None = None  # (out,); None: unchanged

    def vectors(self) -> dict[str, Tensor]:
        """Parameter name → change, without unchanged ones."""
        both = {"weight": self.weight, "bias": self.bias}
        return {name: vector for name, vector in both.items() if vector is not None}

    def scaled(self, strength: float) -> VectorDelta:
        """This change times the strength, float64 on the CPU."""
        return VectorDelta(**{k: strength * v.cpu().double() for k, v in self.vectors().items()})

    def plus(self, other: VectorDelta) -> VectorDelta:
        """The sum of both changes."""
        vectors = self.vectors()
        sums = {k: vectors[k] + v if k in vectors else v for k, v in other.vectors().items()}
        return VectorDelta(**(vectors | sums))

    def to(self, device: torch.device, dtype: torch.dtype) -> VectorDelta:
        """The same on another device, or in another precision."""
        return VectorDelta(**{k: v.to(dtype).to(device) for k, v in self.vectors().items()})


@dataclass(frozen=True)
class Adapter:
    """One LoRA: its layers by canonical name, and information from its file."""

    name: str  # file name without its suffix
    layers: Mapping[str, LoraLayer]
    base: str = ""  # name of the LayerTable it fits: "mini", "sd15"
    family: str = ""  # name of the file family
    trigger: str = ""  # trigger phrase of the concept, "" if the file has none
    metadata: Mapping[str, str] = field(default_factory=dict)  # the file's header, verbatim
    sha256: str = ""  # of the whole file
    warnings: tuple[str, ...] = ()  # sentences on the file, for the user
    embeddings: tuple[Embedding, ...] = ()  # textual inversions inside the file
    # canonical name of a layer or a normalisation → change of its bias and weight vectors
    shifts: Mapping[str, VectorDelta] = field(default_factory=dict)
    based: bool = False  # whether its changes depend on the base model's weights (DoRA, OFT …)

    @property
    def triggers(self) -> tuple[str, ...]:
        """Its trigger phrases, plain: a merge has one of each LoRA, separated by commas."""
        return tuple(plain_text(phrase) for phrase in self.trigger.split(", ") if phrase)
