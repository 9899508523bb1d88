"""Trained vectors: biases, and the weights and biases of normalisations, stored as differences.

LyCORIS writes ``diff_b`` with a full difference, and ``w_norm`` with ``b_norm``; ComfyUI's
extraction ``diff`` and ``diff_b`` for both; PEFT ``lora_B.bias``, scaled as the factors are, and
whole vectors, from which the base's are subtracted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from merging.adapter import LoraLayer, VectorDelta
from merging.errors import MergeError
from merging.formats.families.layer_tensors import BaseWeights, Misfit, base_weight
from merging.formats.families.roles import UP_BIAS, WHOLE_BIAS, WHOLE_WEIGHT, is_up_bias, is_whole
from merging.formats.header import FLOATS, Header
from merging.formats.layer_tables import LayerTable, Role
from merging.formats.tensors import Body

PARAMETERS: dict[Role, str] = {
    "diff_b": "bias",
    "b_norm": "bias",
    UP_BIAS: "bias",
    "w_norm": "weight",
    WHOLE_BIAS: "bias",
}
TITLES = {
    "bias": ("bias", "biases"),
    "normalisation": ("normalisation vector", "normalisation vectors"),
}


def parameter(module: str, role: Role, table: LayerTable) -> str:
    """The vector that a tensor changes, ``module.bias`` or ``module.weight``; "" if none."""
    end = "weight" if role in ("diff", WHOLE_WEIGHT) else PARAMETERS.get(role, "")
    name = f"{module}.{end}"
    return name if name in table.vectors else ""


def misfit(
    name: str, key: str, header: Header, layers: Iterable[str], table: LayerTable
) -> Misfit | None:
    """The misfit of a vector's tensor, by the header alone; None if it fits."""
    info, length = header.tensors[key], table.vectors[name]
    if info.dtype not in FLOATS or max(info.shape, default=0) != prod(info.shape):
        return Misfit(
            f"has {key} {info.shape} of type {info.dtype}, where a row of floating-point numbers "
            "is expected; the file is damaged"
        )
    if prod(info.shape) != length:
        return Misfit(
            f"has {key} {info.shape}, where {table.title} has {length} numbers; the LoRA was made "
            "for another base model, or the file is damaged",
            foreign=1,
        )
    if is_up_bias(key) and name.rpartition(".")[0] not in layers:
        return Misfit("has lora_B.bias but no factors; the file is incomplete, download it again")
    return None


def count_by_kind(parameters: Iterable[str]) -> dict[str, int]:
    """Kind → number of parameters: biases of layers, and vectors of normalisations."""
    kinds = Counter("normalisation" if _is_normalisation(name) else "bias" for name in parameters)
    return {kind: kinds[kind] for kind in TITLES if kinds[kind]}


def _is_normalisation(name: str) -> bool:
    """Whether the parameter's module is a normalisation, by its name."""
    return "norm" in name.split(".")[-2]


def describe_counts(counts: Mapping[str, int]) -> str:
    """ "3 biases and 2 normalisation vectors", "" for none."""
    return " and ".join(f"{n} {TITLES[kind][n > 1]}" for kind, n in counts.items())


def vector_lengths(shifts: Mapping[str, VectorDelta]) -> dict[str, int]:
    """Parameter → length, for all vectors that an adapter changes."""
    return {
        f"{module}.{name}": len(vector)
        for module, shift in shifts.items()
        for name, vector in shift.vectors().items()
    }


def notes(parameters: Iterable[str]) -> list[str]:
    """A sentence on the vectors of a file, if it has any."""
    counts = describe_counts(count_by_kind(parameters))
    if not counts:
        return []
    return [
        f"It changes {counts} too: pictures are drawn with them, and a merge sums them at the "
        "LoRAs' strengths; only files of the full format can hold them."
    ]


def read_shifts(
    keys: Mapping[str, str],
    layers: Mapping[str, LoraLayer],
    body: Body,
    weights: BaseWeights | None,
) -> dict[str, VectorDelta]:
    """Module → its changes, float32, from ``keys`` (parameter → key).

    MergeError for numbers that are not finite, and for whole vectors without ``weights``.
    """
    shifts: dict[str, VectorDelta] = {}
    for name, key in keys.items():
        module, _, end = name.rpartition(".")
        vector = body.tensor(key).float().flatten()
        if is_up_bias(key):
            vector = layers[module].scale * vector
        if is_whole(key):
            vector = vector - base_weight(weights, name, "saved whole", body.file).float()
        if not vector.isfinite().all():
            raise MergeError(
                f"{body.file}: {key} has values that are not finite numbers; its training failed, "
                "or the file is damaged."
            )
        shifts[module] = shifts.get(module, VectorDelta()).plus(VectorDelta(**{end: vector}))
    return shifts
