"""The tensors of an open file, one at a time: what is not asked for is never read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import torch
from torch import Tensor

from merging.errors import MergeError
from merging.formats.header import Header

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
CHUNK = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True)
class Body:
    """What follows the header of an open file; the tensors fill it to the end."""

    stream: BinaryIO
    size: int  # of the whole file, in bytes
    header: Header
    file: str  # its name, for the sentences

    def tensor(self, key: str) -> Tensor:
        """One tensor as it is stored; MergeError if the file has become shorter meanwhile."""
        info = self.header.tensors[key]
        self.stream.seek(self._start + info.start)
        raw = bytearray(info.end - info.start)
        if self.stream.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise MergeError(f"{self.file} was cut short while it was read; try it again.")
        return torch.frombuffer(raw, dtype=TYPES[info.dtype]).reshape(info.shape)

    def sha256(self) -> str:
        """Of all bytes of the file."""
        self.stream.seek(0)
        digest = hashlib.sha256()
        while chunk := self.stream.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def _start(self) -> int:
        return self.size - max(info.end for info in self.header.tensors.values())
