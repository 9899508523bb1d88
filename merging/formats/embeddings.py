"""Textual inversions, inside a LoRA's file or in one of their own: which words, and which vectors.

A1111 and LyCORIS write ``bundle_emb.<word>.string_to_param.*`` (with other fields beside it),
OneTrainer ``bundle_emb.<word>.clip_l``, diffusers the word itself, mostly as ``<word>``; kohya's
``emb_params`` names none, and then the file's name is the word, as A1111 has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import layer_tables as layers
from merging.formats import unused_keys as leftover
from merging.formats.header import FLOATS, Header, TensorInfo
from merging.formats.layer_tables import LayerTable, printable, title
from merging.formats.tensors import Body, opened

BUNDLE = "bundle_emb."
NAMELESS = ("emb_params", "clip_l", "clip_g")
KIND = "textual inversion"  # of leftover.KINDS
ENCODERS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2", 1280: "SDXL"}


def words(keys: Iterable[str]) -> dict[str, list[str]]:
    """Each word that the file brings, and its keys; "" where the file does not name it."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(_word(key), []).append(key)
    return found


def usable(header: Header, keys: Iterable[str], table: LayerTable) -> dict[str, str]:
    """Word → the key of its vectors, where they are as wide as the base's text encoder."""
    found: dict[str, str] = {}
    for word, own in words(keys).items():
        fitting = [key for key in own if _fits(header.tensors[key], width(table))]
        if fitting:
            found[word] = fitting[0]
    return found


def width(table: LayerTable) -> int:
    """How many numbers the vector of a token has."""
    return next(
        shape[1] for layer, shape in table.shapes.items() if layer.endswith("self_attn.q_proj")
    )


def vectors(info: TensorInfo) -> int:
    """How many token vectors a word stands for."""
    return info.shape[0] if len(info.shape) == 2 else 1


def sentences(header: Header, keys: list[str], table: LayerTable) -> list[str]:
    """What is said of those inside a LoRA."""
    good = usable(header, keys, table)
    told = [
        f"{word or 'one called as the file'} ({vectors(header.tensors[key])} vectors)"
        for word, key in good.items()
    ]
    found = []
    if told:
        found.append(
            f"Textual inversions inside the file: {', '.join(told)}; they are used, and a merge "
            "brings each as a file of its own."
        )
    if other := [word or "one without a name" for word in words(keys) if word not in good]:
        found.append(
            f"Textual inversions left out: {', '.join(other)}; their vectors are not "
            f"{width(table)} wide, as those of {table.title} are."
        )
    return found


def bundled(body: Body, keys: Iterable[str], table: LayerTable) -> tuple[Embedding, ...]:
    """Those inside a LoRA's file."""
    good = usable(body.header, keys, table)
    return tuple(_taken(body, word or title(body.file), key) for word, key in good.items())


def read_embeddings(
    path: Path, table: LayerTable, name: str | None = None, word: str = ""
) -> tuple[Embedding, ...]:
    """The textual inversions of a safetensors file, under their own words or as ``word``.

    Mostly it is one. Raises MergeError for other kinds of files, and for other base models'.
    """
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        keys = [key for key in body.header.tensors if leftover.kind(key) == KIND]
        if len(body.header.tensors) == 1:  # diffusers' own files: any word may be the key
            keys = list(body.header.tensors)
        good = usable(body.header, keys, table)
        if not good:
            raise MergeError(_refusal(body, keys, table))
        if word and len(good) > 1:
            raise MergeError(
                f"{file} has {len(good)} textual inversions ({', '.join(good)}), so it cannot be "
                f"called {word}; give it without a word."
            )
        return tuple(
            _taken(body, word or own or title(file), key, body.sha256())
            for own, key in good.items()
        )


def alone(path: Path, name: str | None = None) -> tuple[str, tuple[Embedding, ...]] | None:
    """Base model's name and textual inversions of a file of nothing else; None for other files.

    Raises MergeError for those that were made for other base models.
    """
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        keys = list(body.header.tensors)
        if not _words_only(keys):
            return None
        second = [key for key in keys if key == "clip_g"]  # SDXL's other text encoder
        for base in map(layers.table, () if second else layers.TABLES):
            if usable(body.header, keys, base):
                return base.name, read_embeddings(path, base, name)
        raise MergeError(_refusal(body, second or keys, layers.table(layers.TABLES[0])))


def _words_only(keys: list[str]) -> bool:
    """By the keys' names; diffusers writes a single one, which may be any word."""
    if len(keys) == 1 and "." not in keys[0]:
        return True
    return all(
        leftover.kind(key) == KIND or key in NAMELESS or key.startswith("string_to_")
        for key in keys
    )


def _word(key: str) -> str:
    if not key.startswith(BUNDLE):
        return "" if key in NAMELESS or "string_to_param" in key else key
    rest = key.removeprefix(BUNDLE).removesuffix(".*")
    return rest.rpartition(".")[0] or rest  # a word may have dots of its own, a field has none


def _fits(info: TensorInfo, wide: int) -> bool:
    return info.dtype in FLOATS and len(info.shape) in (1, 2) and info.shape[-1] == wide


def _taken(body: Body, word: str, key: str, sha256: str = "") -> Embedding:
    found = body.tensor(key).float()
    if not found.isfinite().all():
        raise MergeError(
            f"{body.file}: the textual inversion {word} has values that are not finite numbers; "
            "its training failed, or the file is damaged."
        )
    return Embedding(word, found.reshape(-1, found.shape[-1]), title(body.file), sha256)


def _refusal(body: Body, keys: Iterable[str], table: LayerTable) -> str:
    """Why a file has no textual inversion for this base."""
    for key in keys:
        shape = body.header.tensors[key].shape
        if len(shape) in (1, 2) and shape[-1] in (*ENCODERS, width(table)):
            made = ENCODERS.get(shape[-1], "another base model")
            return (
                f"{body.file} is a textual inversion for {made} (its vectors are {shape[-1]} "
                f"wide); {table.title} has {width(table)}."
            )
    return (
        f"{body.file} is no textual inversion (its first key is {next(iter(body.header.tensors))})"
        "; choose an embedding's .safetensors file."
    )
