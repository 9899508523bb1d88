"""Read a written file back and check it before it is used: all changes, and all programs' keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from merging.adapter import Adapter
from merging.base_models import SD15, base_model
from merging.formats.compare import compare_differences, compare_factors, verification_error
from merging.formats.compatibility import (
    MAX_UNKNOWN_KEYS,
    PROGRAMS,
    misread_by_diffusers,
    width_for_invokeai,
)
from merging.formats.embeddings import token_width
from merging.formats.header import Header
from merging.formats.layer_tables import LayerTable
from merging.formats.match import KeyMatch, best_match
from merging.formats.tensors import opened
from merging.formats.vector_deltas import (
    count_by_kind,
    describe_counts,
    vector_lengths,
)

# The tensors of a layer that is not stored as factors.
WHOLE = ({"diff"}, {"shira_weight", "shira_indices"})


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
    """The result of the checks of a written file."""

    sha256: str
    base: str  # name of the LayerTable it fits
    modules: int
    error: float  # the largest ‖read − written‖ / ‖written‖ of a layer
    layer: str  # the layer with that error
    programs: tuple[str, ...]  # that find all modules by their key rules
    # other programs → number of keys of biases and normalisations that they do not find
    missing: Mapping[str, int] = field(default_factory=dict)
    shifts: str = ""  # the biases and normalisations in it, in words
    without: str = ""  # those of the merge that it cannot hold, in words
    loaded: float | None = None  # the largest error after diffusers' loader, None if not run

    @property
    def sentence(self) -> str:
        """The checks and their results, in words."""
        only = "" if self.base == SD15.name else f", for {base_model(self.base).title} only"
        *first, last = self.programs
        listed = f"{', '.join(first)} and {last}" if first else last
        by_diffusers = (
            "" if self.loaded is None else f"; loaded by diffusers, error {_short(self.loaded)}"
        )
        return (
            f"read back: {self.modules} modules{f' and {self.shifts}' if self.shifts else ''}, "
            f"largest error {_short(self.error)}; "
            f"keys fit {listed}{only}{by_diffusers}{self._omissions}"
        )

    @property
    def _omissions(self) -> str:
        """What programs do not find and what the file cannot hold, in words."""
        text = ""
        for title, count in self.missing.items():
            refused = count > MAX_UNKNOWN_KEYS.get(title, count)
            does = "would refuse it because of" if refused else "ignores"
            text += f"; {title} {does} {count} keys of biases and normalisations"
        if self.without:
            text += f"; without {self.without}: only a full file holds these (merge --format full)"
        return text

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


def verify_file(
    path: Path,
    name: str,
    adapter: Adapter,
    table: LayerTable,
    programs: Sequence[str],
    without: str = "",
) -> Written:
    """Read the file at ``path``, called ``name``, and compare it with the adapter written to it.

    Raises MergeError, with the layer, if a change is missing or differs, or if one of ``programs``
    would not find it. ``without``: what the file cannot hold, in words.
    """
    with opened(path, name) as body:
        match = best_match(body.header, table, name)
        if all(keys.keys() in WHOLE for keys in match.layers.values()):
            comparison = compare_differences(body, match, adapter)
        else:
            comparison = compare_factors(path, table, adapter, name)
    missing_layers = _missing_layers(match, body.header, comparison.alphas)
    for title in programs:
        if missing := missing_layers[title]:
            raise verification_error(name, f"{title} would not find layer {missing[0]} in it")
    complete = [program for program in PROGRAMS if not missing_layers[program.title]]
    counts = {program.title: program.missing_count(match.shifts, table) for program in complete}
    return Written(
        sha256=comparison.sha256,
        base=table.name,
        modules=comparison.modules,
        error=comparison.error,
        layer=comparison.layer,
        programs=tuple(title for title, count in counts.items() if not count),
        missing={title: count for title, count in counts.items() if count},
        shifts=describe_counts(count_by_kind(vector_lengths(adapter.shifts))),
        without=without,
    )


def _missing_layers(match: KeyMatch, header: Header, alphas: Set[float]) -> dict[str, list[str]]:
    """Program → the layers that it would not find, or would scale wrongly."""
    missing = {}
    for program in PROGRAMS:
        known = set(program.loadable_layers(match.layers, match.table))
        if program.title == "diffusers":
            mixed = match.style == "kohya" and len(alphas) > 1  # it uses one alpha for all layers
            if mixed:
                known.clear()
            known = {layer for layer in known if _has_weight_dimensions(layer, match, header)}
            known.difference_update(misread_by_diffusers(match.layers, match.style))
        if program.title == "InvokeAI" and not _known_to_invokeai(match, header):
            known.clear()
        missing[program.title] = [layer for layer in match.layers if layer not in known]
    return missing


def _known_to_invokeai(match: KeyMatch, header: Header) -> bool:
    """Whether InvokeAI takes the file for one of this base, by its own probe."""
    width = width_for_invokeai({key: info.shape for key, info in header.tensors.items()})
    return width == token_width(match.table)


def _has_weight_dimensions(layer: str, match: KeyMatch, header: Header) -> bool:
    """Whether the factors have as many dimensions as the weight, as diffusers requires."""
    shapes = [
        header.tensors[key].shape for role, key in match.layers[layer].items() if role != "alpha"
    ]
    return all(len(shape) == len(match.table.shapes[layer]) for shape in shapes)
