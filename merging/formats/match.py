"""Match a file's keys to the layers of a base model, and find the base that fits best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from merging.errors import MergeError
from merging.formats import embeddings, unused_keys, vector_deltas
from merging.formats.families import table as families
from merging.formats.families.layer_tensors import Misfit
from merging.formats.families.peft import unilora
from merging.formats.families.roles import (
    IA3_WEIGHT,
    WHOLE_WEIGHT,
    is_whole,
    role_of,
    separated,
    shared_role,
    whole_role,
)
from merging.formats.families.unreadable import unreadable as unreadable_family
from merging.formats.header import Header
from merging.formats.key_names import kohya
from merging.formats.key_names.table import module_names
from merging.formats.layer_tables import TABLES, LayerTable, Role, table
from merging.formats.tensors import Body
from merging.formats.unused_keys import UnusedKeys

Keys = dict[str, dict[Role, str]]  # layer → role → key in the file


@dataclass(frozen=True)
class KeyParts:
    """What a key says: how its module is spelled, which module, and the rest."""

    style: str
    module: str
    ending: str
    role: Role  # "" if no family has this ending


@dataclass(frozen=True)
class KeyMatch:
    """A file's keys, matched to the layers of one base model."""

    table: LayerTable
    style: str  # title of the spelling of most keys
    layers: Keys  # in the order of the table
    shifts: dict[str, str]  # parameter of a bias or a normalisation → key, in the same order
    unused: UnusedKeys  # all other keys, by kind
    duplicates: list[str]  # second keys of the same tensor
    misfits: dict[str, Misfit]  # layers with missing tensors or shapes that do not fit

    @property
    def unknown(self) -> list[str]:
        """Keys of no known kind."""
        return self.unused.get(unused_keys.UNKNOWN, [])

    @property
    def clean(self) -> bool:
        """Whether there are layers, and every key is known and fits."""
        return bool(self.layers) and not (self.unknown or self.duplicates or self.misfits)

    @property
    def known(self) -> int:
        """The number of keys that belong to a layer or a vector."""
        return sum(map(len, self.layers.values())) + len(self.shifts)

    @property
    def usable(self) -> bool:
        """Whether all known layers fit, and more keys are known than unknown."""
        fits = bool(self.layers) and not (self.duplicates or self.misfits)
        return fits and self.known > len(self.unknown)

    @property
    def needs_base(self) -> bool:
        """Whether a change depends on the base model's weights."""
        by_layer = any(map(families.needs_base, self.layers.values()))
        return by_layer or any(map(is_whole, self.shifts.values()))

    @property
    def is_model(self) -> bool:
        """Whether it has whole weights alone: a model, not an adapter."""
        return bool(self.layers) and all(WHOLE_WEIGHT in keys for keys in self.layers.values())

    @property
    def score(self) -> int:
        """The number of known keys, minus those whose shapes suit another base."""
        return self.known - sum(misfit.foreign for misfit in self.misfits.values())


def family_text(match: KeyMatch) -> str:
    """The file's naming scheme and families in words: "kohya", "kohya, LoHa"."""
    kinds = sorted({families.family_title(keys) for keys in match.layers.values()})
    return (
        match.style if kinds == [families.lora.TITLE] else f"{match.style}, {' and '.join(kinds)}"
    )


def match_file(body: Body, base: LayerTable | None) -> KeyMatch:
    """`best_match` of an open file, with keys of changes that are 0 told apart."""
    match = best_match(body.header, base, body.file)
    return replace(match, unused=unused_keys.with_zeros_apart(match.unused, body))


def losses(match: KeyMatch, header: Header) -> list[str]:
    """What of a file could not be read, each as the rest of a sentence on what it has."""
    words = embeddings.losses(header, match.unused.get(embeddings.KIND, []), match.table)
    return unused_keys.losses(match.unused, match.table.title) + words


def best_match(header: Header, base: LayerTable | None, file: str) -> KeyMatch:
    """The keys matched to ``base``, or to the base that fits best; MergeError if none fits."""
    matches = [match_keys(header, known) for known in ([base] if base else map(table, TABLES))]
    match = max(matches, key=lambda candidate: candidate.score)
    if match.is_model:
        key = next(iter(header.tensors))
        raise MergeError(f"{file} is a whole model, not a LoRA (it has {key}); choose a LoRA file.")
    if match.clean:
        return match
    for other in map(table, TABLES):
        if base and match_keys(header, other).clean:
            raise MergeError(
                f"{file} was made for {other.title}, but the base in use is {base.title}; "
                "choose that base, or a LoRA made for this one."
            )
    if match.usable:
        return match
    raise MergeError(_mismatch_text(match, file))


def match_keys(header: Header, table: LayerTable) -> KeyMatch:
    """Find the layer and role of every key, as far as this base has them."""
    names = module_names(table)
    layers: Keys = {}
    vectors: dict[str, str] = {}
    shared: dict[Role, str] = {}
    unused: UnusedKeys = {}
    unreadable: dict[str, Misfit] = {}
    duplicates = []
    style_counts: Counter[str] = Counter()
    for key in header.tensors:
        parts = _key_parts(key, names, header)
        if parts is None and (role := shared_role(key)) and role not in shared:
            shared[role] = key
            continue
        if parts is None:
            unused.setdefault(unused_keys.kind(key), []).append(key)
            continue
        module, role = parts.module, parts.role
        if vector := vector_deltas.parameter(module, role, table):
            tensors, role = vectors, vector
        elif module in table.shapes and role and role not in vector_deltas.PARAMETERS:
            tensors = layers.setdefault(module, {})
        else:
            kind = unused_keys.kind(key, parts.ending)
            if not role and kind == unused_keys.UNKNOWN:
                unreadable[module] = Misfit(unreadable_family(parts.ending))
            unused.setdefault(kind, []).append(key)
            continue
        if role in tensors:
            duplicates.append(key)
        tensors[role] = key
        style_counts[parts.style] += 1
    if stray_shared := _share(shared, layers):
        unused.setdefault(unused_keys.UNKNOWN, []).extend(stray_shared)
    stray = [layer for layer, keys in layers.items() if keys.keys() == {"alpha"}]
    if stray:
        unused[unused_keys.STRAY] = [layers.pop(layer)["alpha"] for layer in stray]
    ordered = {layer: layers[layer] for layer in table.shapes if layer in layers}
    vectors = {name: vectors[name] for name in table.vectors if name in vectors}
    style = max(style_counts, key=lambda title: style_counts[title]) if style_counts else ""
    misfits = _layer_misfits(header, ordered, table) | _vector_misfits(
        header, vectors, ordered, table
    )
    return KeyMatch(table, style, ordered, vectors, unused, duplicates, unreadable | misfits)


def _share(shared: Mapping[Role, str], layers: Keys) -> list[str]:
    """Give every layer what its family shares and it has not itself; the keys that none takes."""
    left = dict(shared)
    for family in families.SHARING:
        for keys in layers.values():
            if not keys.keys().isdisjoint(family.MARKS):
                own = {role: shared[role] for role in family.SHARED if role in shared}
                keys |= own | keys
                left = {role: key for role, key in left.items() if role not in own}
    return list(left.values())


def _key_parts(key: str, names: Mapping[str, tuple[str, str]], header: Header) -> KeyParts | None:
    """The parts of a key at the longest name of a module that it begins with; None without one.

    A name before an ending that a family has counts more than one before any other.
    """
    parts = None
    key = separated(key, names)
    dot = key.find(".")
    while dot >= 0:
        if key[:dot] in names:
            style, module = names[key[:dot]]
            ending = key[dot + 1 :]
            role = role_of(ending)
            if ending == IA3_WEIGHT and (
                style == kohya.FAMILY or f"{key[:dot]}.on_input" in header.tensors
            ):
                role = IA3_WEIGHT
            role = role or whole_role(ending)
            if role or parts is None or not parts.role:
                parts = KeyParts(style, module, ending, role)
        dot = key.find(".", dot + 1)
    return parts


def _layer_misfits(header: Header, layers: Keys, table: LayerTable) -> dict[str, Misfit]:
    """Layer → misfit, for layers that do not fit."""
    misfits = {}
    for layer, keys in layers.items():
        infos = {role: header.tensors[key] for role, key in keys.items()}
        if misfit := families.misfit(infos, table.shapes[layer], table.title):
            misfits[layer] = misfit
    return misfits


def _vector_misfits(
    header: Header, vectors: dict[str, str], layers: Keys, table: LayerTable
) -> dict[str, Misfit]:
    """Parameter → misfit, for vectors that do not fit."""
    misfits = {}
    for name, key in vectors.items():
        if misfit := vector_deltas.misfit(name, key, header, layers, table):
            misfits[name] = misfit
    return misfits


def _mismatch_text(match: KeyMatch, file: str) -> str:
    """One sentence on why a file fits no base."""
    base = match.table.title
    if match.misfits:
        # a layer of another base's size explains most
        layer = max(match.misfits, key=lambda layer: match.misfits[layer].foreign)
        return f"{file}: layer {layer} {match.misfits[layer].text}."
    if not match.layers and match.unknown and shared_role(match.unknown[0]) in unilora.SHARED:
        return f"{file} is {unilora.WITHOUT_PLACES}."
    if not match.layers and match.unknown:
        return (
            f"{file} has no LoRA weights for Stable Diffusion 1.x: its first key is "
            f"{match.unknown[0]}; choose a LoRA in kohya or diffusers form."
        )
    if not match.layers:
        counts = {kind: len(keys) for kind, keys in match.unused.items()}
        for kind, count in vector_deltas.count_by_kind(match.shifts).items():
            counts[kind] = counts.get(kind, 0) + count
        listed = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
        return (
            f"{file} has no layer's weights, only {listed}, and changes nothing; is it the right "
            "file?"
        )
    if match.duplicates:
        return (
            f"{file} has a layer twice, the second time as {match.duplicates[0]}; "
            "save the LoRA again from its trainer."
        )
    key = match.unknown[0]
    return (
        f"{file} has {len(match.unknown)} keys that {base} does not have, such as {key}, the "
        f"nearest is {_nearest_key(key, match.table)}; "
        "it may be for another base model, or from a trainer whose format is not supported."
    )


def _nearest_key(key: str, table: LayerTable) -> str:
    """The known key with the longest common start and end."""
    name = unused_keys.module(key)
    nearest = max(
        module_names(table),
        key=lambda other: _common_prefix(name, other) + _common_prefix(name[::-1], other[::-1]),
    )
    return nearest + key.removeprefix(name)


def _common_prefix(text: str, other: str) -> int:
    """Length of the common start of two texts."""
    pairs = zip(text, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
