"""A written file, read back before anyone gets it: does it hold the changes that were meant?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import TypedDict

import torch

from merging.adapter import Adapter, LoraLayer, VectorDelta, factor_energy
from merging.base_models import SD15, base_model
from merging.errors import MergeError
from merging.formats.compatibility import MOST_UNKNOWN, PROGRAMS, misread
from merging.formats.half_precision import MAX_LOSS, NEGLIGIBLE, balanced
from merging.formats.header import Header
from merging.formats.layer_tables import LayerTable
from merging.formats.match import Fit, fitted
from merging.formats.reader import read
from merging.formats.tensors import opened
from merging.formats.vector_deltas import counted, in_words, sizes

LIMIT = 2 * MAX_LOSS  # of a layer's factors: what the writers allow, and as much again


class WrittenData(TypedDict):
    """What `Written` has, as plain data for JSON."""

    sha256: str
    base: str
    modules: int
    error: float
    layer: str
    programs: list[str]
    missing: dict[str, int]
    shifts: str
    without: str
    loaded: float | None
    sentence: str


@dataclass(frozen=True)
class Written:
    """A file that has passed."""

    sha256: str
    base: str  # name of the LayerTable it fits
    modules: int
    error: float  # the largest ‖read − meant‖ / ‖meant‖ of a layer
    layer: str  # where that is
    programs: tuple[str, ...]  # those whose key rules find every module
    # of the other programs, those that find all but so many keys of biases and normalisations
    missing: Mapping[str, int] = field(default_factory=dict)
    shifts: str = ""  # which of these are in it, in words
    without: str = ""  # and which of the merge it cannot hold
    loaded: float | None = None  # the largest such error after diffusers' own loader, if it ran

    @property
    def sentence(self) -> str:
        """What was checked and found, in words."""
        only = "" if self.base == SD15.name else f", for {base_model(self.base).title} only"
        *first, last = self.programs
        listed = f"{', '.join(first)} and {last}" if first else last
        ran = "" if self.loaded is None else f"; loaded by diffusers, error {_short(self.loaded)}"
        return (
            f"read back: {self.modules} modules{f' and {self.shifts}' if self.shifts else ''}, "
            f"largest error {_short(self.error)}; keys fit {listed}{only}{ran}{self._lacking}"
        )

    @property
    def _lacking(self) -> str:
        """What a program or the file has no place for, in words."""
        told = ""
        for title, count in self.missing.items():
            refused = count > MOST_UNKNOWN.get(title, count)
            does = "would refuse it, knowing no place for" if refused else "has no place for"
            told += f"; {title} {does} {count} keys of biases and normalisations"
        if self.without:
            told += f"; without {self.without}: only a full file holds these (merge --format full)"
        return told

    def as_dict(self) -> WrittenData:
        """Plain data for JSON."""
        return {
            "sha256": self.sha256,
            "base": self.base,
            "modules": self.modules,
            "error": self.error,
            "layer": self.layer,
            "programs": list(self.programs),
            "missing": dict(self.missing),
            "shifts": self.shifts,
            "without": self.without,
            "loaded": self.loaded,
            "sentence": self.sentence,
        }


def _short(number: float) -> str:
    return f"{number:.0e}".replace("e-0", "e-") if number else "0"


def verified(
    path: Path,
    name: str,
    meant: Adapter,
    table: LayerTable,
    wanted: Sequence[str],
    without: str = "",
) -> Written:
    """Read the file at ``path``, called ``name``, and compare it with what it was made from.

    Raises MergeError, which names the layer, if a change is missing or another than meant, or if a
    ``wanted`` program would not find the layer. ``without``: what the file is not meant to hold.
    """
    found = read(path, table, name)
    with opened(path, name) as body:
        header = body.header
    fit = fitted(header, table, name)
    error, layer = max(compared(found, meant, name), _compared_shifts(found, meant, name))
    lost = _finding(fit, header, found)
    for title in wanted:
        if missing := lost[title]:
            raise _refusal(name, f"{title} would not find layer {missing[0]} in it")
    whole = [program for program in PROGRAMS if not lost[program.title]]
    misses = {each.title: each.misses(fit.shifts, table) for each in whole}
    return Written(
        sha256=found.sha256,
        base=table.name,
        modules=len(_speaking(found)),
        error=error,
        layer=layer,
        programs=tuple(title for title, count in misses.items() if not count),
        missing={title: count for title, count in misses.items() if count},
        shifts=in_words(counted(sizes(meant.shifts))),
        without=without,
    )


def compared(
    found: Adapter, meant: Adapter, name: str, when: str = "it was read back"
) -> tuple[float, str]:
    """The largest relative error and its layer; MergeError where one is more than rounding.

    Layers far below the strongest one are measured against NEGLIGIBLE of that, and whether an error
    can be let pass is told by the factors: where these nearly cancel, rounding them costs more.
    """
    sizes = {layer: _product(own) for layer, own in meant.layers.items()}
    norms = {layer: _distance(own, None) for layer, own in meant.layers.items()}
    size, norm = max(sizes.values()), max(norms.values())
    errors = {"": 0.0}
    for layer, own in meant.layers.items():
        error = _distance(own, found.layers.get(layer))
        errors[layer] = error / max(norms[layer], NEGLIGIBLE * norm)
        if not error <= LIMIT * max(sizes[layer], NEGLIGIBLE * size):
            reason = f"layer {layer} is off by {errors[layer]:.1%} of its change"
            raise _refusal(name, reason, when)
    if strange := [layer for layer in _speaking(found) if layer not in meant.layers]:
        raise _refusal(name, f"layer {strange[0]} is in it and was not meant to be", when)
    worst = max(errors, key=lambda layer: errors[layer])
    return errors[worst], worst


def _compared_shifts(found: Adapter, meant: Adapter, name: str) -> tuple[float, str]:
    """The same for biases and normalisations, each against its own size."""
    worst = 0.0, ""
    for module in {**found.shifts, **meant.shifts}:
        wanted = meant.shifts.get(module, VectorDelta())
        off = found.shifts.get(module, VectorDelta()).plus(wanted.scaled(-1.0)).vectors()
        for parameter, rest in off.items():
            size = float(wanted.vectors().get(parameter, 0 * rest).double().norm())
            error = float(rest.double().norm())
            if not error <= LIMIT * size:
                raise _refusal(name, f"{module}.{parameter} is off by {error:.1e} of {size:.1e}")
            worst = max(worst, (error / size if size else 0.0, f"{module}.{parameter}"))
    return worst


def _refusal(name: str, reason: str, when: str = "it was read back") -> MergeError:
    return MergeError(f"{name} was not kept: when {when}, {reason}; please report this.")


def _speaking(adapter: Adapter) -> list[str]:
    """The layers that change anything; A1111 needs zeros beside a bias that changes alone."""
    return [name for name, own in adapter.layers.items() if own.up.any() and own.down.any()]


def _product(layer: LoraLayer) -> float:
    pair = balanced(layer, float(layer.rank))
    return float(pair.up.norm() * pair.down.norm())


def _distance(one: LoraLayer, other: LoraLayer | None) -> float:
    """‖Δ − Δ'‖ from the factors; None is no change."""
    ups, downs = [one.scale * one.up.double()], [one.down.double()]
    if other is not None:
        ups.append(-other.scale * other.up.double().to(ups[0].device))
        downs.append(other.down.double().to(ups[0].device))
    return sqrt(factor_energy(torch.cat(ups, dim=1), torch.cat(downs)))


def _finding(fit: Fit, header: Header, found: Adapter) -> dict[str, list[str]]:
    """Program → the layers that it would not find or would scale wrongly."""
    alphas = {layer.alpha for layer in found.layers.values()}
    missing = {}
    for program in PROGRAMS:
        seen = set(program.finds(fit.layers, fit.table))
        if program.title == "diffusers":
            mixed = fit.style == "kohya" and len(alphas) > 1  # it takes one for all
            seen = set() if mixed else {layer for layer in seen if _shaped(layer, fit, header)}
            seen.difference_update(misread(fit.layers, fit.style))
        missing[program.title] = [layer for layer in fit.layers if layer not in seen]
    return missing


def _shaped(layer: str, fit: Fit, header: Header) -> bool:
    """Whether the factors have as many dimensions as the weight, as diffusers demands."""
    shapes = [
        header.tensors[key].shape for role, key in fit.layers[layer].items() if role != "alpha"
    ]
    return all(len(shape) == len(fit.table.shapes[layer]) for shape in shapes)
