"""The families of changes, and which of them a layer of a file belongs to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from merging.adapter import LoraLayer
from merging.formats.families import dora, full, glora, ia3, loha, lokr, lora, oft
from merging.formats.families.layer_tensors import Misfit, Part, Shapes
from merging.formats.header import FLOATS, TensorInfo
from merging.formats.layer_tables import Role, Shape


class Family(Protocol):
    """One way to write a layer's change: a module of this package."""

    @property
    def TITLE(self) -> str: ...

    @property
    def MARKS(self) -> tuple[Role, ...]: ...

    @property
    def NEEDS_BASE(self) -> bool: ...

    def misfit(self, shapes: Shapes, weight: Shape, base: str) -> Misfit | None: ...

    def rank(self, shapes: Shapes, weight: Shape) -> int: ...

    def change(self, part: Part) -> LoraLayer: ...


FAMILIES: tuple[Family, ...] = (lora, loha, lokr, full, glora, ia3, oft)
NUMBERS = ("alpha", "scalar", "on_input")  # roles of tensors that hold one number, of any type


def family_of(roles: Collection[Role]) -> Family | None:
    """The family whose tensors these are."""
    return next((each for each in FAMILIES if not set(each.MARKS).isdisjoint(roles)), None)


def is_dora(roles: Collection[Role]) -> bool:
    """Whether the change is brought to set norms."""
    return not set(dora.MARKS).isdisjoint(roles)


def needs_base(roles: Collection[Role]) -> bool:
    """Whether the change cannot be told without the base model's weights."""
    found = family_of(roles)
    return is_dora(roles) or (found is not None and found.NEEDS_BASE)


def title(roles: Collection[Role]) -> str:
    """What a layer's change is called, with its article's family first: "LoHa", "LoKr DoRA"."""
    found = family_of(roles)
    name = found.TITLE if found else ""
    if not is_dora(roles):
        return name
    return dora.TITLE if name == lora.TITLE else f"{name} {dora.TITLE}"


def misfit(tensors: dict[Role, TensorInfo], weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the tensors of one layer, judged by the header alone."""
    for role, info in tensors.items():
        if wrong := _wrong_kind(role, info):
            return wrong
    shapes = {role: info.shape for role, info in tensors.items()}
    found = [each for each in FAMILIES if not set(each.MARKS).isdisjoint(shapes)]
    if len(found) > 1:
        listed = " and as ".join(each.TITLE for each in found)
        return Misfit(f"is written as {listed}; save the file again from its trainer")
    if not found:
        return Misfit(f"has {next(iter(shapes))} but no weights; the file is incomplete")
    return found[0].misfit(shapes, weight, base) or dora.misfit(shapes, weight, base)


def _wrong_kind(role: Role, info: TensorInfo) -> Misfit | None:
    """Weights must be floats, and the numbers beside them single."""
    if role in NUMBERS:
        if info.shape in ((), (1,)):
            return None
        return Misfit(f"has {role} {info.shape}, which must be one number; the file is damaged")
    if info.dtype in FLOATS and info.shape:
        return None
    return Misfit(
        f"has {role} {info.shape} of type {info.dtype}; weights are fp16, bf16 or fp32, so the "
        "file is damaged or no LoRA"
    )
