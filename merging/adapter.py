"""The canonical form of a LoRA: what every file becomes when read and every method takes and gives.

Names are diffusers' own, with the part in front: ``unet.down_blocks.0…attn2.to_k`` and
``text_encoder.text_model.encoder.layers.0.self_attn.q_proj`` (with ``text_model.`` whatever the
transformers release calls its modules).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from merging.embedding import Embedding

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

    Convolutions are held flat: their ``in`` counts channels × kernel height × kernel width.
    """

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in)
    alpha: float  # as stored in the file; the rank is read off the factors, never off a config

    @property
    def rank(self) -> int:
        """Inner dimension of the factors."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank: the one place where it is computed."""
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """Δ as a dense (out, in) matrix, in the dtype of the factors."""
        return self.scale * (self.up @ self.down)


@dataclass(frozen=True)
class Shift:
    """What is added to the vectors of one module: a layer's bias, or both of a normalisation."""

    weight: Tensor | None = None  # (channels,), of a normalisation; None: left as it is
    bias: Tensor | None = None  # (out,)

    def vectors(self) -> dict[str, Tensor]:
        """Those that there are, by the name of the parameter."""
        both = {"weight": self.weight, "bias": self.bias}
        return {name: vector for name, vector in both.items() if vector is not None}

    def scaled(self, strength: float) -> Shift:
        """strength times the same, in float64 on the CPU."""
        return Shift(**{k: strength * v.cpu().double() for k, v in self.vectors().items()})

    def plus(self, other: Shift) -> Shift:
        """Both together."""
        own = self.vectors()
        sums = {k: own[k] + v if k in own else v for k, v in other.vectors().items()}
        return Shift(**(own | sums))

    def to(self, device: torch.device, dtype: torch.dtype) -> Shift:
        """The same elsewhere, or in another precision."""
        return Shift(**{k: v.to(dtype).to(device) for k, v in self.vectors().items()})


@dataclass(frozen=True)
class Adapter:
    """One LoRA: its layers by canonical name, and what its file says of itself."""

    name: str  # what the user calls it: the file name without its ending
    layers: Mapping[str, LoraLayer]
    base: str = ""  # name of the LayerTable it fits: "mini", "sd15"
    family: str = ""  # file family it was read from, in words
    trigger: str = ""  # phrase that calls the concept, "" where the file names none
    metadata: Mapping[str, str] = field(default_factory=dict)  # the file's header, verbatim
    sha256: str = ""  # of the whole file it was read from
    warnings: tuple[str, ...] = ()  # what the reader noticed, in sentences
    embeddings: tuple[Embedding, ...] = ()  # words that it brings vectors for
    # by canonical name of a layer or a normalisation: trained biases and normalisation weights
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    based: bool = False  # whether its changes were told by a base model's weights (DoRA, OFT …)
