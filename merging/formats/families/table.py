"""The families of adapters, and the one that a layer of a file belongs to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from merging.adapter import LoraLayer
from merging.formats.families import dora, full, glora, ia3, loha, lokr, lora, oft, whole
from merging.formats.families.layer_tensors import LayerTensors, Misfit, Shapes
from merging.formats.families.peft import (
    boft_inputs,
    fourierft,
    hra,
    oft_inputs,
    shira,
    unilora,
    vblora,
    vera,
)
from merging.formats.families.roles import WHOLE_NUMBERS
from merging.formats.header import FLOATS, TensorInfo
from merging.formats.layer_tables import Role, Shape


class Family(Protocol):
    """One way to store a layer's change: a module of this package."""

    @property
    def TITLE(self) -> str: ...

    @property
    def MARKS(self) -> tuple[Role, ...]: ...

    @property
    def NEEDS_BASE(self) -> bool: ...

    def misfit(self, shapes: Shapes, weight: Shape, base: str) -> Misfit | None: ...

    def rank(self, shapes: Shapes, weight: Shape) -> int: ...

    def change(self, layer: LayerTensors) -> LoraLayer: ...


FAMILIES: tuple[Family, ...] = (
    *(lora, loha, lokr, full, glora, ia3, oft, oft_inputs),
    *(vera, fourierft, hra, boft_inputs, shira, vblora, unilora),
    whole,
)
NUMBERS = (
    "alpha",
    "scalar",
    "on_input",
    "scaled_oft",
)  # roles of tensors that hold one number, of any type


# Families whose layers share tensors, which stand behind no layer's name.
SHARING = (vera, vblora, unilora)


def family_of(roles: Collection[Role]) -> Family | None:
    """The family that these roles belong to, None if there is none."""
    return next((family for family in FAMILIES if not set(family.MARKS).isdisjoint(roles)), None)


def is_dora(roles: Collection[Role]) -> bool:
    """Whether the layer has the norms of a DoRA."""
    return not set(dora.MARKS).isdisjoint(roles)


def needs_base(roles: Collection[Role]) -> bool:
    """Whether the change depends on the base model's weights."""
    family = family_of(roles)
    return is_dora(roles) or (family is not None and family.NEEDS_BASE)


def family_title(roles: Collection[Role]) -> str:
    """The name of a layer's family: "LoHa", "LoKr DoRA"."""
    family = family_of(roles)
    name = family.TITLE if family else ""
    if not is_dora(roles):
        return name
    return dora.TITLE if name == lora.TITLE else f"{name} {dora.TITLE}"


def misfit(tensors: dict[Role, TensorInfo], weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's tensors, by the header alone; None if they fit."""
    for role, info in tensors.items():
        if problem := _type_misfit(role, info):
            return problem
    shapes = {role: info.shape for role, info in tensors.items()}
    present = [family for family in FAMILIES if not set(family.MARKS).isdisjoint(shapes)]
    if len(present) > 1:
        listed = " and as ".join(family.TITLE for family in present)
        return Misfit(f"is written as {listed}; save the file again from its trainer")
    if not present:
        return Misfit(f"has {next(iter(shapes))} but no weights; the file is incomplete")
    return present[0].misfit(shapes, weight, base) or dora.misfit(shapes, weight, base)


def _type_misfit(role: Role, info: TensorInfo) -> Misfit | None:
    """The misfit of a tensor's type: weights must be floats, alpha and the like one number."""
    if role in NUMBERS:
        if info.shape in ((), (1,)):
            return None
        return Misfit(f"has {role} {info.shape}, which must be one number; the file is damaged")
    if info.shape and (info.dtype in FLOATS or role in WHOLE_NUMBERS):
        return None
    return Misfit(
        f"has {role} {info.shape} of type {info.dtype}; weights are fp16, bf16 or fp32, so the "
        "file is damaged or no LoRA"
    )
