"""Write adapters to files: kohya's format for all loaders, diffusers', and full differences.

A file that fails its check is not saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.compatibility import hidden_from_invokeai, misread_by_diffusers
from merging.formats.embeddings import read_embeddings
from merging.formats.half_precision import (
    FactorPair,
    common_rank,
    stored_deltas,
    stored_factors,
    stored_vector,
)
from merging.formats.key_names import kohya, peft
from merging.formats.layer_tables import LayerTable, table_of
from merging.formats.metadata import diffusers_header, full_header, kohya_header
from merging.formats.peft_settings import CONFIG_KEY, build_config
from merging.formats.serialise import serialise, serialise_with_hashes
from merging.formats.vector_deltas import count_by_kind, describe_counts, vector_lengths
from merging.formats.verify import Written, verify_file
from merging.io.atomic_write import write_checked

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
NO_METADATA: Mapping[str, str] = {}
FULL_READERS = ("A1111", "Forge", "ComfyUI", "InvokeAI")  # programs that read full differences
KOHYA_READERS = (*FULL_READERS, "diffusers")


def write_kohya(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write the file that diffusers, A1111, Forge, ComfyUI and InvokeAI all read.

    It has one alpha for all layers: otherwise diffusers scales mixed ranks wrongly. ``metadata``
    adds to the header or overrides it, except hashes and dimensions; it has a date only if
    ``metadata`` does. Raises MergeError for an adapter that fits no SD 1.x base, is zero, or
    overflows ``dtype`` (float16, bfloat16 or float32), if the file cannot be written, and if it
    differs when it is read back.
    """
    table = table_of(adapter)
    alpha = float(common_rank(adapter))
    pairs = _add_marker(stored_factors(adapter, alpha, dtype), table, kohya.FAMILY)
    tensors = {}
    for layer, pair in pairs.items():
        name = kohya.key_stems(layer)[0]
        up, down = _in_weight_shape(pair, layer, table)
        tensors[f"{name}.lora_up.weight"] = up
        tensors[f"{name}.lora_down.weight"] = down
        # float32: bfloat16 cannot hold 300 exactly
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    header = kohya_header(adapter, table, pairs, alpha, metadata)
    content = serialise_with_hashes(tensors, header)
    return write_checked(
        path,
        content,
        lambda temporary: _verify_low_rank(temporary, path.name, adapter, table, KOHYA_READERS),
    )


def write_diffusers(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write diffusers' format (PEFT keys, alpha = rank, ranks in the header).

    Raises as `write_kohya` does.
    """
    table = table_of(adapter)
    pairs = _add_marker(stored_factors(adapter, None, dtype), table, peft.FAMILY)
    tensors = {}
    for layer, pair in pairs.items():
        up, down = _in_weight_shape(pair, layer, table)
        tensors[f"{layer}.lora_A.weight"] = down
        tensors[f"{layer}.lora_B.weight"] = up
    settings = {CONFIG_KEY: build_config({key: p.rank for key, p in pairs.items()})}
    header = diffusers_header(adapter, table, metadata) | settings
    content = serialise_with_hashes(tensors, header)
    return write_checked(
        path,
        content,
        lambda temporary: _verify_low_rank(temporary, path.name, adapter, table, ("diffusers",)),
    )


def write_full(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write all changes as full differences (LyCORIS's ``diff``): exact at any rank, but large.

    A1111, Forge, ComfyUI and InvokeAI read it, diffusers does not. Only this format holds biases
    and normalisations: diffusers refuses a file that has any. Raises as `write_kohya` does.
    """
    table = table_of(adapter)
    tensors = {
        f"{kohya.key_stems(layer)[0]}.diff": delta.reshape(table.shapes[layer])
        for layer, delta in stored_deltas(adapter, dtype).items()
    }
    tensors = _vector_tensors(adapter, table, dtype) | tensors
    if hidden_from_invokeai((*adapter.layers, *adapter.shifts)):
        marker = _marker(table)
        zeros = torch.zeros(table.shapes[marker], dtype=dtype)
        tensors[f"{kohya.key_stems(marker)[0]}.diff"] = zeros
    content = serialise_with_hashes(tensors, full_header(adapter, table, metadata))
    return write_checked(
        path,
        content,
        lambda temporary: verify_file(temporary, path.name, adapter, table, FULL_READERS),
    )


def _verify_low_rank(
    path: Path, name: str, adapter: Adapter, table: LayerTable, programs: tuple[str, ...]
) -> Written:
    """Check a file of layers alone, and note the biases and normalisations that it leaves out."""
    omitted = describe_counts(count_by_kind(vector_lengths(adapter.shifts)))
    return verify_file(
        path, name, adapter_in_format(adapter, "kohya"), table, programs, without=omitted
    )


def _vector_tensors(adapter: Adapter, table: LayerTable, dtype: torch.dtype) -> dict[str, Tensor]:
    """Biases and normalisations by LyCORIS's keys, with the zeros that A1111 requires.

    It needs both vectors of a normalisation, and a full difference for every bias.
    """
    tensors = {}
    for module, shift in adapter.shifts.items():
        name = kohya.key_stems(module)[0]
        vectors = {
            end: stored_vector(adapter.name, module, v, dtype) for end, v in shift.vectors().items()
        }
        if module in table.shapes:
            tensors[f"{name}.diff_b"] = vectors["bias"]
            tensors[f"{name}.diff"] = torch.zeros(table.shapes[module], dtype=dtype)
        else:
            for letter, end in (("w", "weight"), ("b", "bias")):
                length = table.vectors[f"{module}.{end}"]
                tensors[f"{name}.{letter}_norm"] = vectors.get(
                    end, torch.zeros(length, dtype=dtype)
                )
    return tensors


def write_embedding(embedding: Embedding, path: Path, table: LayerTable) -> None:
    """Write the vectors of a textual inversion, float32, as diffusers does: key = word.

    A1111, Forge and ComfyUI read it too; they use the file's name as the word.
    """
    vectors = embedding.vectors.cpu().float()
    key = embedding.word if re.fullmatch(r"[ -~]+", embedding.word) else "emb_params"

    def check(temporary: Path) -> None:
        (embedding,) = read_embeddings(temporary, table, path.name)
        if not torch.equal(embedding.vectors, vectors):
            raise MergeError(f"{path.name} was not saved: its values differ when it is read back.")

    write_checked(path, serialise({key: vectors}, {"format": "pt"}), check)


WRITERS = {"kohya": write_kohya, "diffusers": write_diffusers, "full": write_full}


def adapter_in_format(adapter: Adapter, form: str) -> Adapter:
    """The adapter as a file of this format holds it: only the full format has vector deltas."""
    return adapter if form == "full" else replace(adapter, shifts={})


def _add_marker(
    pairs: dict[str, FactorPair], table: LayerTable, style: str
) -> dict[str, FactorPair]:
    """The pairs, with a layer of zeros if diffusers or InvokeAI would misread them without one."""
    misread = misread_by_diffusers(pairs, style)
    if not misread and not (style == kohya.FAMILY and hidden_from_invokeai(pairs)):
        return pairs
    marker = _marker(table)
    rows, columns = table.shapes[marker]
    pair = pairs[misread[0] if misread else next(iter(pairs))]  # for a rank that it has anyway
    up, down = pair.up.new_zeros(rows, pair.rank), pair.down.new_zeros(pair.rank, columns)
    return pairs | {marker: FactorPair(up, down)}


def _marker(table: LayerTable) -> str:
    """The layer by which programs tell how to read a file: a text encoder's first ``out_proj``."""
    return next(layer for layer in table.shapes if layer.endswith(".self_attn.out_proj"))


def _in_weight_shape(pair: FactorPair, layer: str, table: LayerTable) -> tuple[Tensor, Tensor]:
    """up and down as they are stored: 4-D for convolutions, with the kernel in down."""
    kernel = table.shapes[layer][2:]
    if not kernel:
        return pair.up, pair.down
    return pair.up[..., None, None], pair.down.unflatten(1, table.shapes[layer][1:])
