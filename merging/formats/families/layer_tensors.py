"""One layer of a file, as the families of changes see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from merging.errors import MergeError
from merging.formats.layer_tables import Role, Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

# canonical layer name -> its weight, None if unknown
BaseWeights = Callable[[str], "Tensor | None"]
Shapes = Mapping[Role, Shape]


@dataclass(frozen=True)
class Part:
    """The tensors of one layer in float64, and the weight that they change."""

    file: str
    layer: str
    kind: str  # the family's title, for the sentence that asks for the base
    shape: Shape  # of the base model's weight
    tensors: Mapping[Role, Tensor]
    alpha: float | None  # None where the file names none
    weights: BaseWeights | None

    @cached_property
    def base(self) -> Tensor:
        """W0 as (out, in) in float64; MergeError where no base model was given."""
        weight = self.weights(self.layer) if self.weights else None
        if weight is None or tuple(weight.shape) not in (self.shape, flat(self.shape)):
            raise MergeError(
                f"{self.file}: layer {self.layer} is {self.kind}, whose change depends on the base "
                "model's own weights; give the base model too (--base mini, sd15 or a folder)."
            )
        return weight.detach().to("cpu").double().reshape(flat(self.shape))


def over(alpha: float | None, rank: int) -> float:
    """alpha, where missing and 0 both mean the rank."""
    return alpha or float(rank)


def not_finite(file: str, layer: str) -> MergeError:
    """What is said of a layer with a value that is no finite number."""
    return MergeError(
        f"{file}: layer {layer} has values that are not finite numbers; its training failed, or "
        "the file is damaged."
    )


@dataclass(frozen=True)
class Misfit:
    """What is wrong with a layer's tensors, as the rest of a sentence that names the layer."""

    text: str
    foreign: int = 0  # how many tensors may be right for a base model of other sizes


def lacks(shapes: Shapes, *roles: Role) -> Misfit | None:
    """What is wrong if one of these is missing."""
    missing = [role for role in roles if role not in shapes]
    if not missing:
        return None
    there = next((role for role in shapes if role != "alpha"), "alpha")
    return Misfit(
        f"has {there} but no {missing[0]}; the file is incomplete, save or download it again"
    )


def clash(shapes: Shapes, *roles: Role, ends: str = "the file is damaged") -> Misfit:
    """The shapes of these do not belong together."""
    listed = " but ".join(f"{role} {shapes[role]}" for role in roles)
    return Misfit(f"has {listed}; {ends}")


def misplaced(shapes: Shapes, roles: Sequence[Role], weight: Shape, base: str) -> Misfit:
    """Tensors do not fit the layer's weight."""
    listed = " and ".join(f"{role} {shapes[role]}" for role in roles)
    return Misfit(
        f"has {listed}, which does not fit its weight {weight} in {base}; the LoRA was made for "
        "another base model, or the file is damaged",
        foreign=len(roles),
    )


def is_pointwise(kernel: Shape) -> bool:
    """Whether these are the last dimensions of a linear layer or of a 1×1 convolution."""
    return kernel in ((), (1, 1))
