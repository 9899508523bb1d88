"""CLIP's tokenizer, cut to its first 7,678 merges: 8,192 tokens, 32 per prompt.

Words of everyday captions keep their own tokens; rare letter strings split into pieces, as in SD.
The merges come from the MIT-licensed PyPI package open-clip-torch.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from transformers import CLIPTokenizer

WHEEL = "open_clip_torch-3.3.0-py3-none-any.whl"
MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
TOKENS, LENGTH = 8192, 32


def merges(work: Path) -> list[str]:
    """CLIP's byte-pair merges in order, as "left right" lines; ValueError on another file."""
    wheel = work / "packages" / WHEEL
    if not wheel.exists():
        fetch = ["download", "--no-deps", "open-clip-torch==3.3.0", "-d", str(wheel.parent)]
        subprocess.run([sys.executable, "-m", "pip", *fetch], check=True)
    with zipfile.ZipFile(wheel) as packed:
        data = packed.read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{wheel} holds other merges than these weights were trained on.")
    return gzip.decompress(data).decode().split("\n")[1 : TOKENS - 2 * 256 - 2 + 1]


def byte_symbols() -> list[str]:
    """The 256 characters that stand for bytes, in CLIP's order (as in GPT-2's encoder)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + place) for place in range(len(moved))]


def build(work: Path) -> CLIPTokenizer:
    """The tokenizer of the embedded base and of its CLIP."""
    symbols, pairs = byte_symbols(), merges(work)
    words = [*symbols, *(symbol + "</w>" for symbol in symbols)]
    words += ["".join(pair.split()) for pair in pairs] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(words)}
    split = [tuple(pair.split()) for pair in pairs]
    return CLIPTokenizer(vocab=vocabulary, merges=split, model_max_length=LENGTH)
