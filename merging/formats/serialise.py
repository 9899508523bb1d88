"""The bytes of a safetensors file, in pieces: no tensor is copied, for a file may take gigabytes.

The same tensors and metadata give the same bytes; the safetensors library shuffles the metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Pieces = Sequence[bytes | memoryview]

CODES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
}
# sd-scripts' legacy hash covers these bytes of a file.
LEGACY_START, LEGACY_END = 0x100000, 0x110000


def serialise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Pieces:
    """The file: header, then wide types first, then by name; metadata sorted."""
    keys = sorted(tensors, key=lambda key: (-tensors[key].itemsize, key))
    rows: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for key in keys:
        tensor = tensors[key]
        end = offset + tensor.nbytes
        rows[key] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the tensors to eight bytes
    return [len(header).to_bytes(8, "little") + header, *(_raw_bytes(tensors[k]) for k in keys)]


def serialise_with_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Pieces:
    """The file with the hashes by which A1111, Civitai and others find and check a model.

    sd-scripts' two are those of the file with its ``ss_`` fields only, and the SHA-256 of all
    tensors is modelspec's, too (https://github.com/Stability-AI/ModelSpec).
    """
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    header, *body = serialise(tensors, training)
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    legacy = hashlib.sha256(_between([header, *body], LEGACY_START, LEGACY_END))
    hashes = {
        "sshs_model_hash": digest.hexdigest(),
        "sshs_legacy_hash": legacy.hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{digest.hexdigest()}",
    }
    return serialise(tensors, {**metadata, **hashes})


def _between(pieces: Pieces, start: int, end: int) -> bytes:
    """The bytes of the file from ``start`` to ``end``."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece[max(start, 0) : max(end, 0)]
        start, end = start - len(piece), end - len(piece)
    return bytes(gathered)


def _raw_bytes(tensor: Tensor) -> memoryview:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
