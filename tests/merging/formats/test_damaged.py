"""Damaged files: a MergeError that begins with the name, and never another exception."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.errors import MergeError
from merging.formats import read
from tests.merging.formats.handmade import TO_K, factors, kohya, raw, refusal, saved

GOOD = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
DOWN, UP, ALPHA = (f"{TO_K.kohya}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))


def row(dtype: Any = "F16", shape: Any = (4,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def whole(path: Path) -> bytes:
    return saved(path.with_name("whole"), GOOD).read_bytes()


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.safetensors", b"0" * 64)


# What is wrong with the bytes, how to make it, and a part of the message.
DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing in it": (lambda p: p.write_bytes(b""), "is empty"),
    "three bytes": (lambda p: p.write_bytes(b"abc"), "not a safetensors"),
    "noise": (lambda p: p.write_bytes(bytes(range(200))), "not a safetensors"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(list(range(50)))), "pickle"),
    "torch file": (lambda p: torch.save({"a": torch.ones(9)}, p), "torch or zip"),
    "zip": (zipped, "torch or zip"),
    "web page": (lambda p: p.write_bytes(b"<!DOCTYPE html><html>sign in"), "web page"),
    "LFS pointer": (lambda p: p.write_bytes(b"version https://git-lfs.github.com"), "Git LFS"),
    "cut in the header": (lambda p: p.write_bytes(whole(p)[:100]), "cut short"),
    "cut in the tensors": (lambda p: p.write_bytes(whole(p)[:-1]), "cut short"),
    "bytes at the end": (lambda p: p.write_bytes(whole(p) + b"x"), "overlap or leave holes"),
    "length beyond the file": (lambda p: raw(p, {"a": row()}, bytes(8), 1 << 40), "cut short"),
    "length of 2⁶⁴": (lambda p: raw(p, {"a": row()}, bytes(8), (1 << 64) - 1), "cut short"),
    "huge header": (
        lambda p: raw(p, b'{"a":' + b" " * (9 << 20) + b"1}"),
        "more than 8 MiB beside its texts",
    ),
    "bad JSON": (lambda p: raw(p, b'{"a": [1, 2}', bytes(8)), "damaged header"),
    "bad UTF-8": (lambda p: raw(p, b'{"\xff": 1}', bytes(8)), "damaged header"),
    "deep JSON": (lambda p: raw(p, b'{"a":' + b"[" * 200_000), "damaged header"),
    "long number": (lambda p: raw(p, b'{"a":' + b"9" * 5000 + b"}"), "damaged header"),
    "key twice": (lambda p: raw(p, b'{"a":1,"a":1}'), "occurs twice"),
    "nested metadata": (lambda p: raw(p, {"__metadata__": {"a": {}}}), "not text"),
    "metadata a list": (lambda p: raw(p, {"__metadata__": [1]}), "damaged header"),
    "half a character": (lambda p: raw(p, rb'{"__metadata__":{"a":"\ud800"}}'), "damaged header"),
    "no tensors": (lambda p: raw(p, {"__metadata__": {"a": "b"}}), "has no tensors"),
    "row a number": (lambda p: raw(p, {"a": 3}), "wrong header row"),
    "row without offsets": (
        lambda p: raw(p, {"a": {"dtype": "F16", "shape": [1]}}),
        "wrong header row",
    ),
    "three offsets": (
        lambda p: raw(p, {"a": row(offsets=(0, 4, 8))}, bytes(8)),
        "wrong header row",
    ),
    "fractional shape": (lambda p: raw(p, {"a": row(shape=(4.0,))}, bytes(8)), "no whole number"),
    "true as shape": (lambda p: raw(p, {"a": row(shape=(True,))}, bytes(8)), "no whole number"),
    "type a list": (lambda p: raw(p, {"a": row(dtype=["F16"])}, bytes(8)), "save the LoRA as"),
    "eight-bit floats": (
        lambda p: raw(p, {"a": row("F8_E4M3", (8,))}, bytes(8)),
        "F8_E4M3; save the LoRA as fp16",
    ),
    "shape bomb": (lambda p: raw(p, {"a": row(shape=(0, 10**12), offsets=(0, 0))}), "malicious"),
    "a thousand dimensions": (
        lambda p: raw(p, {"a": row(shape=(1,) * 1000, offsets=(0, 2))}, bytes(2)),
        "1000 dimensions",
    ),
    "negative shape": (lambda p: raw(p, {"a": row(shape=(-1, -4))}, bytes(8)), "malicious"),
    "negative offset": (lambda p: raw(p, {"a": row(offsets=(-8, 0))}, bytes(8)), "holes"),
    "size against shape": (lambda p: raw(p, {"a": row(shape=(5,))}, bytes(8)), "but 8 bytes"),
    "overlap": (
        lambda p: raw(p, {"a": row(), "b": row(offsets=(4, 12))}, bytes(12)),
        "overlap or leave holes",
    ),
    "hole": (lambda p: raw(p, {"a": row(), "b": row(offsets=(9, 17))}, bytes(17)), "holes"),
    "start with a hole": (lambda p: raw(p, {"a": row(offsets=(1, 9))}, bytes(9)), "holes"),
    "key with a line break": (lambda p: raw(p, {"../x\n": row()}, bytes(8)), "invalid name"),
    "long key": (lambda p: raw(p, {"k" * 300: row()}, bytes(8)), "invalid name"),
    "many tensors": (
        lambda p: raw(p, {f"k{n}": row(shape=(1,), offsets=(0, 2)) for n in range(5000)}),
        "5000 tensors",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(tmp_path: Path, case: str) -> None:
    make, message = DAMAGED[case]
    path = tmp_path / "bad one.safetensors"
    make(path)
    assert message in refusal(path)


def test_whole_models_are_refused_by_size_without_reading_them(tmp_path: Path) -> None:
    path = raw(tmp_path / "model.safetensors", {"a": row()})
    with path.open("r+b") as stream:
        stream.truncate(5 << 30)  # sparse
    assert "5120 MiB" in refusal(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.safetensors")


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_every_truncation_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(whole(path)[:length])
    refusal(path)


@pytest.mark.parametrize("seed", range(150))
def test_flipped_bytes_in_the_header_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    """Random damage either leaves a LoRA that can be read, or is refused in a sentence."""
    path = tmp_path / "bad.safetensors"
    content = bytearray(whole(path))
    generator = torch.Generator().manual_seed(seed)
    end = 8 + struct.unpack("<Q", content[:8])[0]
    for place in torch.randint(end, (3,), generator=generator).tolist():
        content[place] = int(torch.randint(256, (1,), generator=generator))
    path.write_bytes(content)
    try:
        read(path)
    except MergeError:
        refusal(path)
