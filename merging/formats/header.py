"""Read and check the header of a safetensors file before any tensor is read.

The safetensors library refuses holes, overlaps and wrong sizes, but accepts dimensions of 10¹²,
hundreds of thousands of empty tensors, unusual types and any key. So the header is checked here,
with one sentence for everything that a LoRA never has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from merging.errors import FileError, MergeError
from merging.io.files import open_regular

MAX_FILE_BYTES = 4 << 30  # whole float32 differences for every layer of SD 1.5 are 3.7 GiB
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; kohya's tag statistics reach 20 MB
MAX_ROWS_BYTES = 8 << 20  # of a header without its texts, which take little memory
MAX_TENSORS = 4000  # a LoCon for all 354 layers of SD 1.5 has 1062
MAX_DIMENSION = 1 << 16  # the largest of Stable Diffusion 1.x is CLIP's vocabulary, 49408
MAX_KEY = 256
TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')  # a JSON string
# Control characters, surrogates, and the marks that turn the direction of a text around.
HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
FLOATS = ("F64", "F32", "F16", "BF16")  # integers are used for alpha only

PICKLED = (  # docs/cli.md has the lines of Python
    "which can hide programs (torch.load with weights_only=True reads it safely, and "
    "safetensors.torch.save_file writes what it holds)"
)
MAGIC = (  # first bytes → kind of file
    (b"PK\x03\x04", f"a torch or zip file (.pt, .ckpt, .bin), {PICKLED}"),
    (b"\x80", f"a pickle file, {PICKLED}"),
    (b"version https://git-lfs", "a Git LFS pointer: the text that stands for the real file"),
    (b"<", "a web page, as a download without permission leaves it"),
    (b"GGUF", "a GGUF model"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8", "a picture"),
)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor by its row in the header; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header: tensors by key in file order, and the metadata verbatim."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(stream: BinaryIO, size: int, file: str) -> Header:
    """Header of an open safetensors file of ``size`` bytes; MergeError, with ``file``, if wrong."""
    start = stream.read(32)
    _check_kind(start, size, file)
    length = int.from_bytes(start[:8], "little")
    if length > size - 8:
        raise MergeError(f"{file} is cut short or damaged: download or copy it again.")
    if length > MAX_HEADER_BYTES:
        raise MergeError(
            f"{file} has a header of {length // 10**6} MB, where safetensors allows "
            f"{MAX_HEADER_BYTES // 10**6}; it is damaged or malicious."
        )
    stream.seek(8)
    text = stream.read(length)
    if length > MAX_ROWS_BYTES and len(TEXT.sub(b"", text)) > MAX_ROWS_BYTES:
        raise MergeError(
            f"{file} has a header with more than {MAX_ROWS_BYTES >> 20} MiB beside its texts, "
            "where a LoRA has a few lines; it is damaged or malicious."
        )
    rows, metadata = _parse_header(text, file)
    if len(rows) > MAX_TENSORS:
        raise MergeError(
            f"{file} has {len(rows)} tensors, a LoRA for Stable Diffusion 1.x at most 1062; "
            "it is another kind of file."
        )
    tensors = {key: _tensor_info(key, row, file) for key, row in rows.items()}
    _check_offsets(tensors, size - 8 - length, file)
    return Header(tensors, metadata)


def _check_kind(start: bytes, size: int, file: str) -> None:
    """Refuse other files than safetensors, and files that are too large for a LoRA."""
    if size == 0:
        raise MergeError(f"{file} is empty: download or copy it again.")
    for magic, kind in MAGIC:
        # the length of a header may start with any byte; the header itself with a brace
        if start.startswith(magic) and start[8:9] != b"{":
            raise MergeError(f"{file} is {kind}; a .safetensors file is needed.")
    if size < 16 or start[8:9] != b"{":
        raise MergeError(f"{file} is not a safetensors file; choose the LoRA's .safetensors file.")
    if size > MAX_FILE_BYTES:
        raise MergeError(
            f"{file} has {size / 2**20:.0f} MiB, more than any adapter for Stable Diffusion 1.x "
            f"needs ({MAX_FILE_BYTES >> 20} MiB): is it a checkpoint?"
        )


def _parse_header(text: bytes, file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Rows and metadata of a header; MergeError if its JSON is wrong."""
    try:
        rows = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        metadata = rows.pop("__metadata__", {})
        if not all(
            isinstance(value, str) and value.encode() is not None
            for pair in metadata.items()
            for value in pair
        ):
            raise ValueError("metadata that is not text")
    except (ValueError, AttributeError, RecursionError) as error:
        raise MergeError(
            f"{file} has a damaged header ({_first_line(error)}): download or copy it again."
        ) from error
    return rows, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    rows = dict(pairs)
    if len(rows) < len(pairs):
        raise ValueError("a key occurs twice")
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _tensor_info(key: str, row: Any, file: str) -> TensorInfo:
    """A row of the header, checked."""
    if not 1 <= len(key) <= MAX_KEY or HIDDEN.search(key):
        raise MergeError(f"{file} has a tensor with an invalid name ({ascii(key)[:60]}).")
    try:
        dtype, shape = row["dtype"], tuple(row["shape"])
        start, end = row["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise MergeError(
            f"{file}: tensor {key} has a wrong header row; the file is damaged."
        ) from error
    if any(type(number) is not int for number in (*shape, start, end)):
        raise MergeError(f"{file}: tensor {key} has a size that is no whole number.")
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise MergeError(
            f"{file}: tensor {key} has type {str(dtype)[:20]}; save the LoRA as fp16, bf16 or fp32."
        )
    if len(shape) > 4 or not all(1 <= number <= MAX_DIMENSION for number in shape):
        raise MergeError(
            f"{file}: tensor {key} has shape {_short(shape)}, which no layer of a LoRA has; "
            "the file is damaged or malicious."
        )
    if end - start != prod(shape) * BYTES[dtype]:
        raise MergeError(
            f"{file}: tensor {key} has shape {_short(shape)} but {end - start} bytes; "
            "the file is damaged."
        )
    return TensorInfo(dtype, shape, start, end)


def _short(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 4 else f"of {len(shape)} dimensions"


def _check_offsets(tensors: Mapping[str, TensorInfo], size: int, file: str) -> None:
    """The tensors must fill the rest of the file without hole or overlap."""
    if not tensors:
        raise MergeError(f"{file} has no tensors: the LoRA was saved empty.")
    spans = sorted((info.start, info.end) for info in tensors.values())
    if spans[-1][1] > size:
        raise MergeError(f"{file} is cut short: download or copy it again.")
    if spans[0][0] != 0 or spans[-1][1] != size or any(a[1] != b[0] for a, b in pairwise(spans)):
        raise MergeError(f"{file} has tensors that overlap or leave holes; the file is damaged.")


@contextmanager
def open_file(path: Path, file: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file and its size; FileError if it cannot be opened, MergeError if it is not regular."""
    try:
        with open_regular(path, file) as stream:
            yield stream, path.stat().st_size
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(
            f"{file} cannot be read ({reason}); check the name and the path.", error
        ) from error
