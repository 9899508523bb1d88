"""Which base model a file's keys and shapes belong to, and which tensor is what there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from merging.errors import MergeError
from merging.formats import unused_keys as leftover
from merging.formats import vector_deltas as shifts
from merging.formats.families import table as changes
from merging.formats.families.layer_tensors import Misfit
from merging.formats.header import Header
from merging.formats.key_names import attn_processors as old_diffusers
from merging.formats.key_names import kohya, ldm, peft
from merging.formats.layer_tables import TABLES, LayerTable, Names, Role, table
from merging.formats.unused_keys import Left

Keys = dict[str, dict[Role, str]]  # layer -> what its tensors are called in the file


@dataclass(frozen=True)
class Style:
    """How a group of trainers spells: names of layers for a base, and what the suffixes mean."""

    title: str
    names: Names
    roles: dict[str, Role]

    def find(self, key: str) -> tuple[str, Role] | None:
        """Layer and role of a key, looked up at each of its dots."""
        dot = key.find(".")
        while dot >= 0:
            role = self.roles.get(key[dot + 1 :])
            if role and key[:dot] in self.names:
                return self.names[key[:dot]], role
            dot = key.find(".", dot + 1)
        return None

    def keys(self) -> Iterator[str]:
        """Every key that a file in this style can have."""
        return (f"{name}.{suffix}" for name in self.names for suffix in self.roles)


@dataclass(frozen=True)
class Fit:
    """A file's keys beside a base model's layers."""

    table: LayerTable
    style: str  # how most of the keys are spelled, in words
    layers: Keys  # in the order of the table
    shifts: dict[str, str]  # parameter of a bias or a normalisation → key, in that order too
    left: Left  # everything else, by kind
    twice: list[str]
    misfits: dict[str, Misfit]  # layers that are not whole, or not this base's

    @property
    def unknown(self) -> list[str]:
        """Keys of no kind that is known."""
        return self.left.get(leftover.UNKNOWN, [])

    @property
    def clean(self) -> bool:
        """Whether there are layers, and every key has its place and its size."""
        return bool(self.layers) and not (self.unknown or self.twice or self.misfits)

    @property
    def known(self) -> int:
        """How many keys have their place."""
        return sum(map(len, self.layers.values())) + len(self.shifts)

    @property
    def usable(self) -> bool:
        """Whether what is known is whole, and is more than what is not."""
        whole = bool(self.layers) and not (self.twice or self.misfits)
        return whole and self.known > len(self.unknown)

    @property
    def score(self) -> int:
        """How many keys suit this base."""
        return self.known - sum(misfit.foreign for misfit in self.misfits.values())


def styles(table: LayerTable) -> tuple[Style, ...]:
    """All spellings, for one base."""
    # a whole model in ComfyUI's layout has names that end in weight, as an IA³ has
    dotted = {suffix: role for suffix, role in kohya.ROLES.items() if suffix not in ("weight",)}
    return (
        Style(kohya.FAMILY, kohya.names(table), kohya.ROLES),
        Style(peft.FAMILY, peft.names(table), peft.ROLES),
        Style(old_diffusers.FAMILY, old_diffusers.names(table), old_diffusers.ROLES),
        Style(ldm.FAMILY, ldm.names(table), dotted),
    )


def family(fit: Fit) -> str:
    """How the file is spelled and what its changes are, in words."""
    kinds = sorted({changes.title(keys) for keys in fit.layers.values()})
    return fit.style if kinds == [changes.lora.TITLE] else f"{fit.style}, {' and '.join(kinds)}"


def fitted(header: Header, wanted: LayerTable | None, file: str) -> Fit:
    """The file's keys on the wanted base, or on the one they fit best; MergeError if on none."""
    fits = [fit_to(header, each) for each in ([wanted] if wanted else map(table, TABLES))]
    fit = max(fits, key=lambda each: each.score)
    if fit.clean:
        return fit
    for other in map(table, TABLES):
        if wanted and fit_to(header, other).clean:
            raise MergeError(
                f"{file} was made for {other.title}, but the base in use is {wanted.title}; "
                "choose that base, or a LoRA made for this one."
            )
    if fit.usable:
        return fit
    raise MergeError(_complaint(fit, file))


def fit_to(header: Header, table: LayerTable) -> Fit:
    """Give every key of a file its layer and role, as far as this base has them."""
    known = styles(table)
    found: Keys = {}
    vectors: dict[str, str] = {}
    left: Left = {}
    twice = []
    spelled: Counter[str] = Counter()
    for key in header.tensors:
        style, module, role = _find(key, known)
        if vector := shifts.parameter(module, role, table):
            slots, slot = vectors, vector
        elif module in table.shapes and role not in shifts.PARAMETERS:
            slots, slot = found.setdefault(module, {}), role
        else:
            left.setdefault(leftover.kind(key), []).append(key)
            continue
        if slot in slots:
            twice.append(key)
        slots[slot] = key
        spelled[style] += 1
    stray = [layer for layer, keys in found.items() if keys.keys() == {"alpha"}]
    if stray:
        left[leftover.STRAY] = [found.pop(layer)["alpha"] for layer in stray]
    ordered = {layer: found[layer] for layer in table.shapes if layer in found}
    vectors = {name: vectors[name] for name in table.vectors if name in vectors}
    style = max(spelled, key=lambda title: spelled[title]) if spelled else ""
    misfits = _misfits(header, ordered, table) | _astray(header, vectors, ordered, table)
    return Fit(table, style, ordered, vectors, left, twice, misfits)


def _find(key: str, known: Iterable[Style]) -> tuple[str, str, Role]:
    """Style, layer and role of a key; all "" if no style has it."""
    for style in known:
        if found := style.find(key):
            return (style.title, *found)
    return "", "", ""


def _misfits(header: Header, layers: Keys, table: LayerTable) -> dict[str, Misfit]:
    """What is wrong with each layer that is not right."""
    found = {}
    for layer, keys in layers.items():
        infos = {role: header.tensors[key] for role, key in keys.items()}
        if misfit := changes.misfit(infos, table.shapes[layer], table.title):
            found[layer] = misfit
    return found


def _astray(
    header: Header, vectors: dict[str, str], layers: Keys, table: LayerTable
) -> dict[str, Misfit]:
    """What is wrong with each vector that is not right, by its parameter's name."""
    found = {}
    for name, key in vectors.items():
        if misfit := shifts.misfit(name, key, header, layers, table):
            found[name] = misfit
    return found


def _complaint(fit: Fit, file: str) -> str:
    """Why a file fits no base, in one sentence."""
    base = fit.table.title
    if not fit.layers and fit.unknown:
        return (
            f"{file} holds no LoRA weights for Stable Diffusion 1.x: its first key is "
            f"{fit.unknown[0]}; choose a LoRA in kohya or diffusers form."
        )
    if not fit.layers:
        counts = {kind: len(keys) for kind, keys in fit.left.items()}
        for kind, count in shifts.counted(fit.shifts).items():
            counts[kind] = counts.get(kind, 0) + count
        listed = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
        return (
            f"{file} changes nothing: it has no layer's weights, only {listed}; is it the right "
            "file?"
        )
    if fit.misfits:
        # of many, one of another base's size says most
        layer = max(fit.misfits, key=lambda layer: fit.misfits[layer].foreign)
        return f"{file}: layer {layer} {fit.misfits[layer].text}."
    if fit.twice:
        return (
            f"{file} names a layer twice in two spellings (the second time as {fit.twice[0]}); "
            "save the LoRA again from its trainer."
        )
    key = fit.unknown[0]
    return (
        f"{file} has {len(fit.unknown)} keys that {base} does not know, such as {key}, the "
        f"nearest is {_nearest(key, styles(fit.table))}; "
        "it may be for another base model, or from a trainer whose files cannot be read yet."
    )


def _nearest(key: str, known: Iterable[Style]) -> str:
    """The known key that shares most with this one at both ends."""
    keys = (other for style in known for other in style.keys())  # noqa: SIM118 (no mapping)
    return max(keys, key=lambda other: _shared(key, other) + _shared(key[::-1], other[::-1]))


def _shared(one: str, other: str) -> int:
    """How many letters two words have in common before they part."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
