"""Adapters to files: the kohya file that every loader reads, diffusers' own, whole differences.

The same adapter and metadata give the same bytes: safetensors' own writer shuffles the metadata, so
the few lines of the format are written here. Files appear whole and read back, or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.compatibility import misread
from merging.formats.embeddings import read_embeddings
from merging.formats.half_precision import Pair, cast, common_rank, stored, whole
from merging.formats.key_names import kohya, peft
from merging.formats.layer_tables import LayerTable, table_of
from merging.formats.metadata import diffusers_header, full_header, kohya_header, model_hashes
from merging.formats.vector_deltas import counted, in_words, sizes
from merging.formats.verify import Written, verified
from merging.io.atomic_write import write_checked

CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
NO_METADATA: Mapping[str, str] = {}
WITH_WHOLE = ("A1111", "Forge", "ComfyUI", "InvokeAI")  # those that take whole differences
EVERYWHERE = (*WITH_WHOLE, "diffusers")


def write_kohya(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write the file that diffusers, A1111, Forge, ComfyUI and InvokeAI read alike.

    One alpha for all layers, the only spelling that diffusers scales rightly when ranks differ.
    ``metadata`` adds to the header or overrides it, but for hashes and dimensions; there is no date
    unless it brings one. Raises MergeError for an adapter that fits no SD 1.x base, is zero, or
    overflows ``dtype`` (float16, bfloat16 or float32), and if the file cannot be written, or read
    back as it was meant.
    """
    table = table_of(adapter)
    alpha = float(common_rank(adapter))
    pairs = _signed(stored(adapter, alpha, dtype), table, kohya.FAMILY)
    tensors = {}
    for layer, pair in pairs.items():
        name = kohya.spelled(layer)[0]
        up, down = _shaped(pair, layer, table)
        tensors[f"{name}.lora_up.weight"] = up
        tensors[f"{name}.lora_down.weight"] = down
        # float32, for bfloat16 has no exact 300
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    header = kohya_header(adapter, table, pairs, alpha, metadata)
    content = _hashed(tensors, header)
    return write_checked(
        path, content, lambda it: _without_shifts(it, path.name, adapter, table, EVERYWHERE)
    )


def write_diffusers(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write diffusers' own form (PEFT keys, alpha folded in, ranks in the header).

    Raises as `write_kohya` does.
    """
    table = table_of(adapter)
    pairs = _signed(stored(adapter, None, dtype), table, peft.FAMILY)
    tensors = {}
    for layer, pair in pairs.items():
        up, down = _shaped(pair, layer, table)
        tensors[f"{layer}.lora_A.weight"] = down
        tensors[f"{layer}.lora_B.weight"] = up
    settings = {peft.CONFIG_KEY: peft.written_config({key: p.rank for key, p in pairs.items()})}
    header = diffusers_header(adapter, table, metadata) | settings
    content = serialised(tensors, header)
    return write_checked(
        path, content, lambda it: _without_shifts(it, path.name, adapter, table, ("diffusers",))
    )


def write_full(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write every change whole (LyCORIS's ``diff``): nothing is lost by rank, but it is large.

    A1111, Forge, ComfyUI and InvokeAI read it, diffusers does not. It alone holds shifted vectors:
    diffusers refuses a whole file that has any. Raises as `write_kohya` does.
    """
    table = table_of(adapter)
    tensors = {
        f"{kohya.spelled(layer)[0]}.diff": delta.reshape(table.shapes[layer])
        for layer, delta in whole(adapter, dtype).items()
    }
    tensors = _shifted(adapter, table, dtype) | tensors
    content = _hashed(tensors, full_header(adapter, table, metadata))
    return write_checked(
        path, content, lambda it: verified(it, path.name, adapter, table, WITH_WHOLE)
    )


def _without_shifts(
    path: Path, name: str, adapter: Adapter, table: LayerTable, wanted: tuple[str, ...]
) -> Written:
    """A file of layers alone, verified as one, which says what it leaves out."""
    left = in_words(counted(sizes(adapter.shifts)))
    return verified(path, name, held(adapter, "kohya"), table, wanted, without=left)


def _shifted(adapter: Adapter, table: LayerTable, dtype: torch.dtype) -> dict[str, Tensor]:
    """Vectors by LyCORIS's keys; A1111 takes none alone, so zeros stand where others are missing.

    It asks for both of a normalisation, and for a whole difference beside a bias.
    """
    tensors = {}
    for module, shift in adapter.shifts.items():
        name = kohya.spelled(module)[0]
        own = {end: cast(adapter.name, module, v, dtype) for end, v in shift.vectors().items()}
        if module in table.shapes:
            tensors[f"{name}.diff_b"] = own["bias"]
            tensors[f"{name}.diff"] = torch.zeros(table.shapes[module], dtype=dtype)
        else:
            for letter, end in (("w", "weight"), ("b", "bias")):
                length = table.vectors[f"{module}.{end}"]
                tensors[f"{name}.{letter}_norm"] = own.get(end, torch.zeros(length, dtype=dtype))
    return tensors


def write_embedding(embedding: Embedding, path: Path, table: LayerTable) -> None:
    """Write a word's vectors, float32, as diffusers does: one tensor, named by the word.

    A1111, Forge and ComfyUI read it too; to them the file's name is the word.
    """
    vectors = embedding.vectors.cpu().float()
    key = embedding.word if re.fullmatch(r"[ -~]+", embedding.word) else "emb_params"

    def check(beside: Path) -> None:
        (found,) = read_embeddings(beside, table, path.name)
        if not torch.equal(found.vectors, vectors):
            raise MergeError(f"{path.name} was not kept: it holds other values than meant.")

    write_checked(path, serialised({key: vectors}, {"format": "pt"}), check)


WRITERS = {"kohya": write_kohya, "diffusers": write_diffusers, "full": write_full}


def held(adapter: Adapter, form: str) -> Adapter:
    """The adapter as far as a file of this form holds it: shifted vectors in the full one alone."""
    return adapter if form == "full" else replace(adapter, shifts={})


def _hashed(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """The file with sd-scripts' hashes, which are of the file with its training fields alone."""
    training = {key: value for key, value in header.items() if key.startswith("ss_")}
    return serialised(tensors, {**header, **model_hashes(serialised(tensors, training))})


def _signed(pairs: dict[str, Pair], table: LayerTable, style: str) -> dict[str, Pair]:
    """The pairs, and where diffusers would misread them without it, an ``out_proj`` of zeros."""
    lost = misread(pairs, style)
    if not lost:
        return pairs
    sign = next(layer for layer in table.shapes if layer.endswith(".self_attn.out_proj"))
    rows, columns = table.shapes[sign]
    like = pairs[lost[0]]  # its rank is one that the file has anyway
    up, down = like.up.new_zeros(rows, like.rank), like.down.new_zeros(like.rank, columns)
    return pairs | {sign: Pair(up, down)}


def _shaped(pair: Pair, layer: str, table: LayerTable) -> tuple[Tensor, Tensor]:
    """up and down as they are stored: 4-D for convolutions, the kernel in the lower half."""
    kernel = table.shapes[layer][2:]
    if not kernel:
        return pair.up, pair.down
    return pair.up[..., None, None], pair.down.unflatten(1, table.shapes[layer][1:])


def serialised(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file: wide types first, then by name, metadata sorted."""
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
    return b"".join((len(header).to_bytes(8, "little"), header, *(_raw(tensors[k]) for k in keys)))


def _raw(tensor: Tensor) -> bytes:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()
