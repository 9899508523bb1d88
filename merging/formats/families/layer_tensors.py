"""The tensors of one layer of a file, and the checks that all families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from merging.errors import MergeError
from merging.formats.layer_tables import Role, Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

# canonical name of a layer, or of a vector ("module.bias") -> its weight, None if unknown
BaseWeights = Callable[[str], "Tensor | None"]
Shapes = Mapping[Role, Shape]


@dataclass(frozen=True)
class LayerTensors:
    """The tensors of one layer in float64, and the weight that they change."""

    file: str
    name: str
    kind: str  # how the layer is stored, for the error without a base model
    shape: Shape  # of the base model's weight
    tensors: Mapping[Role, Tensor]
    alpha: float | None  # None if the file has none, or a tensor of 0
    weights: BaseWeights | None
    rank: int | None = None  # by which alpha is divided, if PEFT's settings say so
    settings: Mapping[str, Any] = field(default_factory=dict)  # PEFT's, of this part of the model

    @cached_property
    def base(self) -> Tensor:
        """W0 as (out, in) in float64; MergeError without a base model."""
        weight = base_weight(self.weights, self.name, self.kind, self.file)
        if tuple(weight.shape) not in (self.shape, flat(self.shape)):
            raise _base_needed(self.name, self.kind, self.file)
        return weight.double().reshape(flat(self.shape))


def base_weight(weights: BaseWeights | None, name: str, kind: str, file: str) -> Tensor:
    """The base's weight of a layer, or its vector, on the CPU; MergeError without it.

    ``kind`` says how the file stores the change: "written as OFT".
    """
    weight = weights(name) if weights else None
    if weight is None:
        raise _base_needed(name, kind, file)
    return weight.detach().to("cpu")


def _base_needed(name: str, kind: str, file: str) -> MergeError:
    return MergeError(
        f"{file}: layer {name} is {kind}, whose change depends on the base model's weights; "
        "choose the base model too (--base mini, sd15 or a folder)."
    )


def alpha_or_rank(alpha: float | None, rank: int) -> float:
    """alpha, or the rank if alpha is missing."""
    return float(rank) if alpha is None else alpha


def places(layer: LayerTensors, stored: Tensor, size: int) -> Tensor:
    """Numbers of a file that are indices, as such; MergeError for one outside 0 … size − 1."""
    if stored.numel() and not (stored.min() >= 0 and stored.max() < size):
        raise MergeError(
            f"{layer.file}: layer {layer.name} has places outside 0 to {size - 1}; the file is "
            "damaged, or made for another base model."
        )
    return stored.long()


def not_finite_error(file: str, layer: str) -> MergeError:
    """The error for a layer with NaN or infinity."""
    return MergeError(
        f"{file}: layer {layer} has values that are not finite numbers; its training failed, or "
        "the file is damaged."
    )


@dataclass(frozen=True)
class Misfit:
    """Why a layer's tensors cannot be used: the end of a sentence that begins with the layer."""

    text: str
    foreign: int = 0  # number of tensors that may fit a base model of other sizes


def missing_tensor(shapes: Shapes, *roles: Role) -> Misfit | None:
    """The misfit if one of these roles is missing, else None."""
    missing = [role for role in roles if role not in shapes]
    if not missing:
        return None
    present = next((role for role in shapes if role != "alpha"), "alpha")
    return Misfit(
        f"has {present} but no {missing[0]}; the file is incomplete, save or download it again"
    )


def shapes_clash(shapes: Shapes, *roles: Role, ends: str = "the file is damaged") -> Misfit:
    """The misfit of tensors whose shapes do not belong together."""
    listed = " but ".join(f"{role} {shapes[role]}" for role in roles)
    return Misfit(f"has {listed}; {ends}")


def wrong_shape(shapes: Shapes, roles: Sequence[Role], weight: Shape, base: str) -> Misfit:
    """The misfit of tensors that do not fit the layer's weight."""
    listed = " and ".join(f"{role} {shapes[role]}" for role in roles)
    return Misfit(
        f"has {listed}, which does not fit its weight {weight} in {base}; the LoRA was made for "
        "another base model, or the file is damaged",
        foreign=len(roles),
    )


def is_pointwise(kernel: Shape) -> bool:
    """Whether this is the kernel shape of a linear layer or of a 1×1 convolution."""
    return kernel in ((), (1, 1))
