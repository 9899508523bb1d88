"""The tensors of an open file, read one at a time."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from merging.errors import MergeError
from merging.formats.header import BYTES, Header, open_file, read_header

if TYPE_CHECKING:
    from torch import Tensor

TYPES = {  # safetensors' type → torch's name
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
}
CODES = {  # safetensors' type → struct's code; struct has no bfloat16
    "F64": "<d",
    "F32": "<f",
    "F16": "<e",
    "I64": "<q",
    "I32": "<i",
    "I16": "<h",
    "I8": "<b",
    "U8": "<B",
}
CHUNK = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True)
class Body:
    """An open safetensors file: its header and its tensors, which fill it to the end."""

    stream: BinaryIO
    size: int  # of the whole file, in bytes
    header: Header
    file: str  # its name, for errors

    def tensor(self, key: str) -> Tensor:
        """One tensor as it is stored; MergeError if the file has become shorter."""
        import torch

        info = self.header.tensors[key]
        dtype = getattr(torch, TYPES[info.dtype])
        return torch.frombuffer(self._raw(key), dtype=dtype).reshape(info.shape)

    def number(self, key: str) -> float:
        """A tensor of one value, read without torch; MergeError as of `tensor`."""
        raw, dtype = bytes(self._raw(key)), self.header.tensors[key].dtype
        if dtype == "BF16":  # the upper half of a float32
            raw, dtype = b"\0\0" + raw, "F32"
        return float(struct.unpack(CODES[dtype], raw)[0])

    def is_zero(self, key: str) -> bool:
        """Whether all numbers are 0 or −0, read without torch; MergeError as of `tensor`."""
        import numpy as np

        size = BYTES[self.header.tensors[key].dtype]
        words = np.frombuffer(self._raw(key), dtype=f"<u{size}")
        sign = 1 << (8 * size - 1)
        return not (words & np.array(sign - 1, words.dtype)).any()

    def _raw(self, key: str) -> bytearray:
        """The bytes of a tensor."""
        info = self.header.tensors[key]
        self.stream.seek(self._start + info.start)
        raw = bytearray(info.end - info.start)
        if self.stream.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise MergeError(f"{self.file} was cut short while it was read; try it again.")
        return raw

    def sha256(self) -> str:
        """SHA-256 of the whole file."""
        self.stream.seek(0)
        digest = hashlib.sha256()
        while chunk := self.stream.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def _start(self) -> int:
        return self.size - max(info.end for info in self.header.tensors.values())


@contextmanager
def opened(path: Path, file: str) -> Iterator[Body]:
    """An open safetensors file, its header read; MergeError, with ``file``, for any other."""
    with open_file(path, file) as (stream, size):
        yield Body(stream, size, read_header(stream, size, file), file)
