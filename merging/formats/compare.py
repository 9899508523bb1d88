"""What a written file holds, beside what it was to hold: all layers and vectors, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer, VectorDelta, factor_energy
from merging.errors import MergeError
from merging.formats.half_precision import MAX_LOSS, NEGLIGIBLE, balanced_factors
from merging.formats.layer_tables import LayerTable
from merging.formats.match import KeyMatch
from merging.formats.reader import read
from merging.formats.tensors import Body
from merging.formats.vector_deltas import read_shifts

MAX_ERROR = 2 * MAX_LOSS  # of a layer's factors: twice what the writers allow
READ_BACK = "it was read back"


@dataclass(frozen=True)
class Found:
    """What a file was found to hold, beside what it was to hold."""

    sha256: str
    modules: int  # that are not zero
    alphas: Set[float]
    error: float  # the largest of a layer or vector, relative to its size
    layer: str  # with that error


def compare_factors(path: Path, table: LayerTable, expected: Adapter, name: str) -> Found:
    """By the reader of all families; MergeError for a change that is missing or differs."""
    actual = read(path, table, name)
    errors = (
        compare_adapters(actual, expected, name),
        _compare_shifts(actual.shifts, expected, name),
    )
    alphas = {layer.alpha for layer in actual.layers.values()}
    return Found(actual.sha256, len(_nonzero_layers(actual)), alphas, *max(errors))


def compare_differences(body: Body, match: KeyMatch, expected: Adapter) -> Found:
    """Of a file of whole or sparse differences, without factors, which would take minutes.

    Errors are those of float32 products; MergeError as `compare_factors`.
    """
    sizes, norms = _sizes_and_norms(expected)
    errors = [(0.0, "")]
    for layer, change in expected.layers.items():
        rest = change.scale * change.up.cpu().float() @ change.down.cpu().float()
        if layer in match.layers:
            _subtract(rest, body, match.layers[layer])
        errors.append(_checked(layer, float(rest.norm()), sizes, norms, body.file))
    numbers = {
        layer: keys.get("diff", keys.get("shira_weight", ""))
        for layer, keys in match.layers.items()
    }
    nonzero = {layer for layer, key in numbers.items() if not body.is_zero(key)}
    _refuse_extra(nonzero, expected, body.file)
    shifts = read_shifts(match.shifts, {}, body, None)
    worst = max(*errors, _compare_shifts(shifts, expected, body.file))
    return Found(body.sha256(), len(nonzero), {1.0}, *worst)


def _subtract(matrix: Tensor, body: Body, keys: Mapping[str, str]) -> None:
    """Take what a file has of a layer off its change."""
    if "diff" in keys:
        matrix.sub_(body.tensor(keys["diff"]).reshape(matrix.shape))
    else:
        rows, columns = body.tensor(keys["shira_indices"]).long()
        values = -body.tensor(keys["shira_weight"]).to(matrix.dtype)
        matrix.index_put_((rows, columns), values, accumulate=True)


def compare_adapters(
    actual: Adapter, expected: Adapter, name: str, when: str = READ_BACK
) -> tuple[float, str]:
    """The largest relative error and its layer; MergeError if one is more than rounding.

    Layers much weaker than the strongest one are measured against NEGLIGIBLE of that. Errors are
    judged by the size of the factors: if these nearly cancel, rounding them costs more.
    """
    sizes, norms = _sizes_and_norms(expected)
    errors = [(0.0, "")]
    for layer, change in expected.layers.items():
        error = _distance(change, actual.layers.get(layer))
        errors.append(_checked(layer, error, sizes, norms, name, when))
    _refuse_extra(_nonzero_layers(actual), expected, name, when)
    return max(errors)


def _sizes_and_norms(adapter: Adapter) -> tuple[dict[str, float], dict[str, float]]:
    """Of every layer: the product of its factors' norms, and the norm of its change."""
    sizes = {name: _factor_size(layer) for name, layer in adapter.layers.items()}
    return sizes, {name: _distance(layer, None) for name, layer in adapter.layers.items()}


def _checked(
    layer: str,
    error: float,
    sizes: Mapping[str, float],
    norms: Mapping[str, float],
    name: str,
    when: str = READ_BACK,
) -> tuple[float, str]:
    """The layer's error relative to its change, and its name; MergeError if it is too large."""
    relative = error / max(norms[layer], NEGLIGIBLE * max(norms.values()))
    if not error <= MAX_ERROR * max(sizes[layer], NEGLIGIBLE * max(sizes.values())):
        reason = f"layer {layer} is off by {relative:.1%} of its change"
        raise verification_error(name, reason, when)
    return relative, layer


def _refuse_extra(
    layers: Iterable[str], expected: Adapter, name: str, when: str = READ_BACK
) -> None:
    """MergeError for a layer that was not to be in the file."""
    if extra := [layer for layer in layers if layer not in expected.layers]:
        raise verification_error(name, f"the file has an extra layer {extra[0]}", when)


def _compare_shifts(
    actual: Mapping[str, VectorDelta], expected: Adapter, name: str
) -> tuple[float, str]:
    """The largest error of the biases and normalisations, relative to their sizes, and its name."""
    worst = 0.0, ""
    for module in {**actual, **expected.shifts}:
        shift = expected.shifts.get(module, VectorDelta())
        difference = actual.get(module, VectorDelta()).plus(shift.scaled(-1.0)).vectors()
        for parameter, rest in difference.items():
            size = float(shift.vectors().get(parameter, 0 * rest).double().norm())
            error = float(rest.double().norm())
            if not error <= MAX_ERROR * size:
                raise verification_error(
                    name, f"{module}.{parameter} is off by {error:.1e} of {size:.1e}"
                )
            worst = max(worst, (error / size if size else 0.0, f"{module}.{parameter}"))
    return worst


def verification_error(name: str, reason: str, when: str = READ_BACK) -> MergeError:
    return MergeError(f"{name} was not saved: when {when}, {reason}; please report this.")


def _nonzero_layers(adapter: Adapter) -> list[str]:
    """The layers that are not zero; A1111 needs layers of zeros for biases without a layer."""
    return [name for name, layer in adapter.layers.items() if layer.up.any() and layer.down.any()]


def _factor_size(layer: LoraLayer) -> float:
    pair = balanced_factors(layer, float(layer.rank))
    return float(pair.up.norm() * pair.down.norm())


def _distance(layer: LoraLayer, other: LoraLayer | None) -> float:
    """‖Δ − Δ'‖ from the factors; None counts as zero."""
    ups, downs = [layer.scale * layer.up.double()], [layer.down.double()]
    if other is not None:
        ups.append(-other.scale * other.up.double().to(ups[0].device))
        downs.append(other.down.double().to(ups[0].device))
    return sqrt(factor_energy(torch.cat(ups, dim=1), torch.cat(downs)))
