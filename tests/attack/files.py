"""Mutated adapter files: every reader answers with a result or with one sentence."""

from __future__ import annotations

import json
import math
import random
import struct
from collections import Counter
from pathlib import Path

from merging import formats
from merging.bundled import LORAS
from merging.errors import MergeError
from merging.formats.overview import overview
from tests.attack.outcome import Outcome, within

SEED = 21
SMALL = min(LORAS.glob("*.safetensors"), key=lambda path: path.stat().st_size)
WORDS = ("F8_E4M3", "F64", "BOOL", "", "../../x", "\0", "NaN", "[]", "1e999", "\u202e", "9" * 40)


def attack(folder: Path, count: int, seconds: float = math.inf, seed: int = SEED) -> Outcome:
    """Mutate a bundled LoRA up to ``count`` times, and read each with both readers."""
    outcome = Outcome(f"mutated files × 2 readers (seed {seed})")
    chance, whole, path = random.Random(seed), SMALL.read_bytes(), folder / "m.safetensors"
    kinds: Counter[str] = Counter()
    for number in within(range(count), seconds):
        path.write_bytes(mutated(whole, chance))
        for reader in (overview, formats.read):
            try:
                reader(path)
                kinds["read"] += 1
            except MergeError as error:
                kinds["refused"] += 1
                outcome.expect(is_sentence(str(error)), f"file {number}: {error}")
                continue
            except Exception as error:  # noqa: BLE001 -- this is what the attack looks for
                kinds["broken"] += 1
                outcome.failures.append(f"file {number}: {reader.__name__}: {error!r}")
            outcome.tried += 1
    outcome.figures = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    return outcome


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """The file with one of several kinds of damage."""
    (length,) = struct.unpack("<Q", whole[:8])
    kind = chance.choice(("bytes", "header", "cut", "length", "text", "row"))
    if kind == "bytes":
        return flipped(whole, chance, 8, len(whole))
    if kind == "header":
        return flipped(whole, chance, 8, 8 + length)
    if kind == "cut":
        return whole[: chance.randrange(len(whole))]
    if kind == "length":
        wrong = chance.choice((0, 1, length - 1, length + 1, 2**31, 2**63, chance.getrandbits(64)))
        return struct.pack("<Q", wrong) + whole[8:]
    header = json.loads(whole[8 : 8 + length])
    key = chance.choice(list(header))
    if kind == "text" or key == "__metadata__":
        header[chance.choice(WORDS) or key] = header.pop(key)
    else:
        field = chance.choice(list(header[key]))
        header[key][field] = chance.choice([*WORDS, None, [], [0], [2**40, 2], [-1, 1], {}, 1.5])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]


def flipped(whole: bytes, chance: random.Random, start: int, end: int) -> bytes:
    """The file with up to 16 bytes changed."""
    damaged = bytearray(whole)
    for _ in range(chance.randint(1, 16)):
        damaged[chance.randrange(start, end)] = chance.randrange(256)
    return bytes(damaged)


def is_sentence(text: str) -> bool:
    """One line that ends like a sentence, of a length that a person reads."""
    return text.endswith((".", "?", "!")) and "\n" not in text and len(text) < 600
