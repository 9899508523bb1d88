"""Thousands of damaged files, each read or refused.

    python -m tests.merging.formats.fuzz COUNT SEED FOLDER

A process of its own, so that its memory can be limited for good. It ends at the first answer that
is neither a sound adapter nor one sentence, and says which file it was and what was done to it.
"""

from __future__ import annotations

import json
import random
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats import overview, read, read_embeddings, table
from merging.formats.header import BYTES
from merging.formats.overview import HASHES
from merging.formats.trigger_words import TAGS, WORDS
from merging.io.files import RECIPE_KEY
from tests.merging.formats.families import CASES, noise, weight
from tests.merging.formats.handmade import FC1, SAMPLES, TO_K, factors, saved

MEMORY = 100 << 20  # bytes of address space beyond what the warmed-up process has
SECONDS = 2  # of processor time for one file
BASES = {sample.name: weight(sample) for sample in SAMPLES}
NORM = "lora_unet_conv_norm_out"
WILD: tuple[Any, ...] = (
    *(0, 1, -1, 3, 2**16, 2**16 + 1, 2**31, 2**53, 2**63, 10**30, 0.5, 1e308),
    *(True, None, "", "F16", "64", [], [1], {}, {"a": 1}, "𝕏", "\ud800"),
)
FLOATS = (float("nan"), float("inf"), -float("inf"), 3e38, 1e-45, -1.0, 0.0, 65504.0)
FIELDS = (*HASHES, *WORDS, TAGS, RECIPE_KEY, "lora_adapter_metadata", "ss_steps", "x")
LARGEST = 4 << 20  # bytes of a damaged file
# What an earlier damage may leave for a later one to stumble on.
NOTHING_LEFT = (TypeError, KeyError, ValueError, IndexError, RuntimeError, struct.error)
Rows = dict[str, Any]
Mutation = Callable[[Rows, bytearray, random.Random], None]


def any_row(rows: Rows, dice: random.Random) -> Any:
    return rows[dice.choice(sorted(key for key in rows if key != "__metadata__") or [""])]


def a_number(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """One of the numbers, or what should be one."""
    row = any_row(rows, dice)
    field = dice.choice(("shape", "data_offsets"))
    place = dice.randrange(len(row[field]) or 1)
    row[field] = [*row[field][:place], dice.choice(WILD), *row[field][place + 1 :]]


def a_field(rows: Rows, body: bytearray, dice: random.Random) -> None:
    row = any_row(rows, dice)
    row[dice.choice(("dtype", "shape", "data_offsets", "more"))] = dice.choice(WILD)
    if dice.random() < 0.3:
        del row[dice.choice(sorted(row))]


def a_type(rows: Rows, body: bytearray, dice: random.Random) -> None:
    any_row(rows, dice)["dtype"] = dice.choice((*BYTES, "F8_E4M3", "C64", "BOOL"))


def a_shape(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """Another shape of as many values, so that the guard lets it pass."""
    row = any_row(rows, dice)
    count = torch.Size(row["shape"]).numel()
    if count > LARGEST:
        raise ValueError("damaged before")
    first = dice.choice([side for side in range(1, count + 1) if count % side == 0])
    row["shape"] = dice.choice(
        ([first, count // first], [count], [1, count], [first, 1, 1, count // first], [count, 1])
    )


def a_key(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """Renamed: by another's end, by a letter, or wildly."""
    keys = sorted(key for key in rows if key != "__metadata__")
    key, other = dice.choice(keys), dice.choice(keys)
    place = dice.randrange(len(key) + 1)
    name = dice.choice(
        (
            f"{key.partition('.')[0]}.{other.partition('.')[2]}",
            key[:place] + chr(dice.randrange(1, 300)) + key[place + 1 :],
            key[:place],
            key * dice.randrange(1, 9),
            f"bundle_emb.{key}",
            dice.choice(("", ".", "<", "__metadata__", "../", "unet.", "base_model.model.")) + key,
        )
    )
    rows[name] = rows.pop(key)


def a_tensor_more_or_less(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """Dropped, doubled, or joined by a great many."""
    key = dice.choice(sorted(key for key in rows if key != "__metadata__"))
    row = rows[key]
    if dice.random() < 0.4:
        del rows[key]
    size = dice.choice((1, 1, 7, 5000))
    rows.update({f"{key}{n}": dict(row) for n in range(size)})


def metadata(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """Fields that are read, with values that they should not have."""
    text = dice.choice(
        (
            json.dumps(dice.choice(WILD[:-1])),
            json.dumps({"unet.lora_alpha": dice.choice(WILD[:-1]), "unet.use_rslora": True}),
            json.dumps({"unet.alpha_pattern": {"(a+)+$": 1}, "unet.peft_type": "LOHA"}),
            json.dumps({"1_a": {"b": dice.choice(WILD[:-1])}}),
            "[" * dice.choice((1, 20, 100_000)),
            "9" * dice.choice((1, 5000)),
            "\0",
        )
    )
    rows["__metadata__"] = {dice.choice(FIELDS): text}


def values(rows: Rows, body: bytearray, dice: random.Random) -> None:
    """Values that no training leaves, in all of a tensor or in some of it."""
    row = any_row(rows, dice)
    start, end = row["data_offsets"]
    codes = {"F32": "<f", "F64": "<d", "F16": "<e"}
    code = codes.get(row["dtype"], "<B")
    wild = 255 if code == "<B" else dice.choice(FLOATS)
    piece = struct.pack(code, min(wild, 65504.0) if code == "<e" else wild)
    step = len(piece) * dice.choice((1, 1, 17))
    for place in range(start, min(end, len(body)) - len(piece) + 1, step):
        body[place : place + len(piece)] = piece


def bits(rows: Rows, body: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randrange(1, 40)):
        body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)


MUTATIONS: tuple[Mutation, ...] = (
    *(a_number, a_field, a_type, a_shape, a_shape, a_key, a_key),
    *(a_tensor_more_or_less, metadata, values, values, bits),
)


def mended(rows: Rows, body: bytes) -> bytes:
    """Offsets put right and bytes to fill them, so that the damage comes by the guard."""
    place = 0
    for row in (row for key, row in rows.items() if key != "__metadata__"):
        size = BYTES[row["dtype"]] * torch.Size(row["shape"]).numel()
        row["data_offsets"], place = [place, place + size], place + size
        if place > LARGEST:
            raise ValueError("a large file is no damaged one")
    return (body * (place // len(body) + 1))[:place]


def packed(rows: Rows, body: bytes, dice: random.Random) -> bytes:
    """The file; at times the damage is hidden from the guard, at times its bytes are broken too."""
    if dice.random() < 0.6:
        with suppress(*NOTHING_LEFT):
            body = mended(rows, body)
    text = json.dumps(rows, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    lengths = (0, 1, 2**31, 2**63, len(text) + 1)
    length = len(text) if dice.random() < 0.95 else dice.choice(lengths)
    whole = bytearray(struct.pack("<Q", length) + text + body)
    if dice.random() < 0.1:
        for _ in range(3):
            whole[dice.randrange(min(len(whole), 8 + len(text)))] = dice.randrange(256)
    cut = dice.random()
    return bytes(whole[: dice.randrange(len(whole))] if cut < 0.03 else whole + b"x" * (cut > 0.98))


def mutant(content: bytes, dice: random.Random) -> tuple[bytes, list[str]]:
    """A file with one to three damages, and their names."""
    start = 8 + struct.unpack("<Q", content[:8])[0]
    rows, body = json.loads(content[8:start]), bytearray(content[start:])
    done = []
    for mutation in dice.sample(MUTATIONS, dice.randint(1, 3)):
        with suppress(*NOTHING_LEFT):
            mutation(rows, body, dice)
            done.append(mutation.__name__)
    return packed(rows, bytes(body), dice), done


def originals(folder: Path) -> list[bytes]:
    """A file of every family and of some spellings, and of textual inversions."""
    files = [
        {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()}
        for case in (make() for make in CASES.values())
    ]
    pair = factors(TO_K)
    files += [
        {f"{TO_K.name}.lora_A.weight": pair.down, f"{TO_K.name}.lora_B.weight": pair.up},
        {f"{TO_K.old}.down.weight": pair.down, f"{TO_K.old}.up.weight": pair.up},
        {"emb_params": noise(4, 128)},
        {"<word>": noise(1, 128), "<other>": noise(2, 128)},
        files[0] | {"bundle_emb.a b.string_to_param.*": noise(2, 128)},
        files[0] | {f"{FC1.kohya}.diff_b": noise(512), f"{NORM}.w_norm": noise(64)},
    ]
    return [saved(folder / "original", tensors).read_bytes() for tensors in files]


def answered(path: Path) -> bool:
    """Whether the file can be read; AssertionError for an answer that is not fit for a person."""
    good = False
    mini = table("mini")
    for look in (
        lambda: overview(path, mini),
        lambda: read(path, mini, weights=BASES.get),
        lambda: read_embeddings(path, mini),
    ):
        try:
            found = look()
        except MergeError as error:
            text = str(error)
            assert text.startswith(path.name), text
            assert "\n" not in text, text
            assert text.endswith((".", "?")), text
            assert len(text) < 1000, text
            continue
        good = True
        for layer in getattr(found, "layers", {}).values():
            assert layer.up.isfinite().all()
            assert layer.down.isfinite().all()
        for own in found.shifts.values() if isinstance(found, Adapter) else ():
            assert all(vector.isfinite().all() for vector in own.vectors().values())
    return good


def limit_memory() -> None:
    """No more than MEMORY beyond what there is, where the system can see to it."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def too_slow(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s of processor time")


def main(count: int, seed: int, folder: Path) -> None:
    torch.set_num_threads(1)  # a thread's stack counts as memory
    contents, dice = originals(folder), random.Random(seed)
    path = folder / "a.safetensors"
    for content in contents:
        path.write_bytes(content)
        assert answered(path)
    limit_memory()
    signal.signal(signal.SIGVTALRM, too_slow)
    good = 0
    for number in range(count):
        content, done = mutant(dice.choice(contents), dice)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            good += answered(path)
        except BaseException:
            print(f"file {number} of seed {seed}: {', '.join(done)}", file=sys.stderr)
            raise
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps({"files": count, "read": good}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
