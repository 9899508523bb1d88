"""Trained vectors: biases, and what normalisations multiply and add. They come as differences.

LyCORIS writes ``diff_b`` beside a whole difference, and ``w_norm`` with ``b_norm``; ComfyUI's
extraction ``diff`` and ``diff_b`` for both; PEFT ``lora_B.bias``, which it scales as the factors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from merging.adapter import LoraLayer, VectorDelta
from merging.errors import MergeError
from merging.formats.families.layer_tensors import Misfit
from merging.formats.header import FLOATS, Header
from merging.formats.layer_tables import LayerTable, Role
from merging.formats.tensors import Body

UP_BIAS: Role = "up_b"  # PEFT's; the other roles are called as kohya's suffixes are
PARAMETERS: dict[Role, str] = {
    "diff_b": "bias",
    "b_norm": "bias",
    UP_BIAS: "bias",
    "w_norm": "weight",
}
TITLES = {
    "bias": ("bias", "biases"),
    "normalisation": ("normalisation vector", "normalisation vectors"),
}


def parameter(module: str, role: Role, table: LayerTable) -> str:
    """The base's vector that a tensor changes, ``module.bias`` or ``module.weight``; "" if none."""
    end = "weight" if role == "diff" else PARAMETERS.get(role, "")
    name = f"{module}.{end}"
    return name if name in table.vectors else ""


def misfit(
    name: str, key: str, header: Header, layers: Iterable[str], table: LayerTable
) -> Misfit | None:
    """What is wrong with the tensor for a vector, judged by the header alone."""
    info, wanted = header.tensors[key], table.vectors[name]
    if info.dtype not in FLOATS or max(info.shape, default=0) != prod(info.shape):
        return Misfit(
            f"has {key} {info.shape} of type {info.dtype}, where a row of floating-point numbers "
            "belongs; the file is damaged"
        )
    if prod(info.shape) != wanted:
        return Misfit(
            f"has {key} {info.shape}, where {table.title} has {wanted} numbers; the LoRA was made "
            "for another base model, or the file is damaged",
            foreign=1,
        )
    if key.endswith("lora_B.bias") and name.rpartition(".")[0] not in layers:
        return Misfit("has lora_B.bias but no factors; the file is incomplete, download it again")
    return None


def counted(parameters: Iterable[str]) -> dict[str, int]:
    """How many there are of either kind: layers' biases, and normalisations' vectors."""
    kinds = Counter("normalisation" if _of_norm(name) else "bias" for name in parameters)
    return {kind: kinds[kind] for kind in TITLES if kinds[kind]}


def _of_norm(name: str) -> bool:
    """Whether the parameter's module is a normalisation; all of Stable Diffusion's say so."""
    return "norm" in name.split(".")[-2]


def in_words(counts: Mapping[str, int]) -> str:
    """ "3 biases and 2 normalisation vectors", "" for none."""
    return " and ".join(f"{n} {TITLES[kind][n > 1]}" for kind, n in counts.items())


def sizes(shifts: Mapping[str, VectorDelta]) -> dict[str, int]:
    """The parameters that an adapter shifts, and the length of each."""
    return {
        f"{module}.{name}": len(vector)
        for module, own in shifts.items()
        for name, vector in own.vectors().items()
    }


def sentences(parameters: Iterable[str]) -> list[str]:
    """What is said of those of a file."""
    told = in_words(counted(parameters))
    if not told:
        return []
    return [
        f"It changes {told} too: they are drawn with, and a merge sums them at the LoRAs' "
        "strengths; of the files that are written, the full one alone can hold them."
    ]


def read_shifts(
    found: Mapping[str, str], layers: Mapping[str, LoraLayer], body: Body
) -> dict[str, VectorDelta]:
    """Module → change, in float32, of ``found`` (parameter → key); MergeError if not finite."""
    read: dict[str, VectorDelta] = {}
    for name, key in found.items():
        module, _, end = name.rpartition(".")
        vector = body.tensor(key).float().flatten()
        if key.endswith("lora_B.bias"):
            vector = layers[module].scale * vector
        if not vector.isfinite().all():
            raise MergeError(
                f"{body.file}: {key} has values that are not finite numbers; its training failed, "
                "or the file is damaged."
            )
        read[module] = read.get(module, VectorDelta()).plus(VectorDelta(**{end: vector}))
    return read
