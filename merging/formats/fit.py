"""Which base model a file's keys and shapes belong to, and which tensor is what there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from merging.errors import MergeError
from merging.formats import kohya, old_diffusers, peft
from merging.formats.header import FLOATS, Header, TensorInfo
from merging.formats.layers import TABLES, LayerTable, Role, Slots, table

FAMILIES = (kohya, peft, old_diffusers)
HARMLESS = ("position_ids",)  # buffers that some trainers save along; they change nothing

Keys = dict[str, dict[Role, str]]  # layer -> what its tensors are called in the file


@dataclass(frozen=True)
class Fit:
    """A file's keys beside a base model's layers."""

    table: LayerTable
    layers: Keys  # in the order of the table
    unknown: list[str]
    twice: list[str]
    misshapen: list[str]

    @property
    def complete(self) -> bool:
        """Whether every key has its place and its size."""
        return not (self.unknown or self.twice or self.misshapen)


def slots(table: LayerTable) -> Slots:
    """Every key that a file of any family can have for this base."""
    return {key: slot for family in FAMILIES for key, slot in family.slots(table).items()}


def family(header: Header, table: LayerTable) -> str:
    """The family that knows most of the file's keys, in words."""
    known = {family.FAMILY: family.slots(table).keys() for family in FAMILIES}
    return max(known, key=lambda name: len(known[name] & header.tensors.keys()))


def fitted(header: Header, wanted: LayerTable | None, file: str) -> Fit:
    """The file's keys on the wanted base, or on the one they fit best; MergeError if on none."""
    fits = [fit_to(header, each) for each in ([wanted] if wanted else map(table, TABLES))]
    fit = max(fits, key=lambda each: sum(map(len, each.layers.values())) - len(each.misshapen))
    if fit.complete:
        return fit
    for other in map(table, TABLES):
        if wanted and fit_to(header, other).complete:
            raise MergeError(
                f"{file} was made for {other.title}, but the base in use is {wanted.title}; "
                "choose that base, or a LoRA made for this one."
            )
    raise MergeError(_complaint(fit, header, file))


def fit_to(header: Header, table: LayerTable) -> Fit:
    """Give every key of a file its layer and role, as far as this base has them."""
    known = slots(table)
    found: Keys = {}
    unknown, twice, misshapen = [], [], []
    for key, info in header.tensors.items():
        if key not in known:
            if not key.endswith(HARMLESS):
                unknown.append(key)
            continue
        layer, role = known[key]
        if role in found.setdefault(layer, {}):
            twice.append(key)
        elif not _has_place(info, role, table.shapes[layer]):
            misshapen.append(key)
        found[layer][role] = key
    ordered = {layer: found[layer] for layer in table.shapes if layer in found}
    return Fit(table, ordered, unknown, twice, misshapen)


def _has_place(info: TensorInfo, role: Role, weight: tuple[int, ...]) -> bool:
    """Whether a tensor's shape and type suit its role beside a weight of this shape.

    1×1 convolutions and linear layers may be stored either way, 2-D or 4-D.
    """
    if role == "alpha":
        return info.shape in ((), (1,))
    if info.dtype not in FLOATS or len(info.shape) < 2:
        return False
    if role == "up":
        return info.shape[0] == weight[0] and info.shape[2:] in ((), (1, 1))
    pointwise = ((weight[1],), (weight[1], 1, 1)) if weight[2:] in ((), (1, 1)) else ()
    return info.shape[1:] in (weight[1:], *pointwise)


def _complaint(fit: Fit, header: Header, file: str) -> str:
    """Why a file fits no base, in one sentence."""
    base = fit.table.title
    if not fit.layers:
        return (
            f"{file} holds no LoRA weights for Stable Diffusion 1.x: its first key is "
            f"{fit.unknown[0]}; choose a LoRA in kohya or diffusers form."
        )
    if fit.misshapen:
        key = fit.misshapen[0]
        info, (layer, role) = header.tensors[key], slots(fit.table)[key]
        return (
            f"{file}: layer {layer} has {role} {info.shape} of type {info.dtype}, which does not "
            f"fit its weight {fit.table.shapes[layer]} in {base}; the LoRA was made for another "
            "base model, or the file is damaged."
        )
    if fit.twice:
        return (
            f"{file} names a layer twice in two spellings (the second time as {fit.twice[0]}); "
            "save the LoRA again from its trainer."
        )
    key = fit.unknown[0]
    return (
        f"{file} has {len(fit.unknown)} keys that {base} does not know, such as {key}, the "
        f"nearest is {_nearest(key, slots(fit.table))}; "
        "it may be for another base model, or from a trainer whose files cannot be read yet."
    )


def _nearest(key: str, known: Iterable[str]) -> str:
    """The known key that shares most with this one at both ends."""
    return max(known, key=lambda other: _shared(key, other) + _shared(key[::-1], other[::-1]))


def _shared(one: str, other: str) -> int:
    """How many letters two words have in common before they part."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
