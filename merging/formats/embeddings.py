"""Textual inversions in a LoRA's file or in separate files: their words and vectors.

A1111 and LyCORIS write ``bundle_emb.<word>.string_to_param.*`` (with other fields),
OneTrainer ``bundle_emb.<word>.clip_l``, diffusers the word alone, mostly as ``<word>``; kohya's
``emb_params`` has no word, so the file's name is used, as in A1111.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import layer_tables, unused_keys
from merging.formats.header import FLOATS, Header, TensorInfo
from merging.formats.layer_tables import LayerTable, adapter_title, printable
from merging.formats.tensors import Body, opened

BUNDLE = "bundle_emb."
NAMELESS = ("emb_params", "clip_l", "clip_g")
KIND = "textual inversion"  # of unused_keys.KINDS
ENCODERS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2", 1280: "SDXL"}


def keys_by_word(keys: Iterable[str]) -> dict[str, list[str]]:
    """Word → its keys; the word is "" if the keys do not name it."""
    by_word: dict[str, list[str]] = {}
    for key in keys:
        by_word.setdefault(_word(key), []).append(key)
    return by_word


def usable_words(header: Header, keys: Iterable[str], table: LayerTable) -> dict[str, str]:
    """Word → the key of its vectors, if they are as wide as the base's text encoder."""
    usable: dict[str, str] = {}
    for word, word_keys in keys_by_word(keys).items():
        fitting = [key for key in word_keys if _fits(header.tensors[key], token_width(table))]
        if fitting:
            usable[word] = fitting[0]
    return usable


def token_width(table: LayerTable) -> int:
    """Width of a token's vector in the base's text encoder."""
    return next(
        shape[1] for layer, shape in table.shapes.items() if layer.endswith("self_attn.q_proj")
    )


def vector_count(info: TensorInfo) -> int:
    """Number of token vectors of a word."""
    return info.shape[0] if len(info.shape) == 2 else 1


def notes(header: Header, keys: list[str], table: LayerTable) -> list[str]:
    """Sentences on the textual inversions in a LoRA's file."""
    usable = usable_words(header, keys, table)
    titles = [
        f"{word or 'one with the name of the file'} ({vector_count(header.tensors[key])} vectors)"
        for word, key in usable.items()
    ]
    if not titles:
        return []
    return [
        f"Textual inversions inside the file: {', '.join(titles)}; they are used, and a merge "
        "writes them to separate files."
    ]


def losses(header: Header, keys: list[str], table: LayerTable) -> list[str]:
    """The textual inversions that the base cannot use: the rest of a sentence on the file."""
    usable = usable_words(header, keys, table)
    other = [word or "one without a name" for word in keys_by_word(keys) if word not in usable]
    if not other:
        return []
    return [
        f"textual inversions, {', '.join(other)}, whose vectors are not {token_width(table)} wide "
        f"as those of {table.title} are"
    ]


def read_bundled(body: Body, keys: Iterable[str], table: LayerTable) -> tuple[Embedding, ...]:
    """The textual inversions in a LoRA's file."""
    usable = usable_words(body.header, keys, table)
    return tuple(
        _read_embedding(body, word or adapter_title(body.file), key) for word, key in usable.items()
    )


def read_embeddings(
    path: Path, table: LayerTable, name: str | None = None, word: str = ""
) -> tuple[Embedding, ...]:
    """The textual inversions of a safetensors file, by the words in it or, if one, as ``word``.

    Raises MergeError for other kinds of files, and for other base models.
    """
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        keys = [key for key in body.header.tensors if unused_keys.kind(key) == KIND]
        if len(body.header.tensors) == 1:  # diffusers' files: any word may be the key
            keys = list(body.header.tensors)
        usable = usable_words(body.header, keys, table)
        if not usable:
            raise MergeError(_refusal(body, keys, table))
        if word and len(usable) > 1:
            raise MergeError(
                f"{file} has {len(usable)} textual inversions ({', '.join(usable)}), so it cannot "
                f"be called {word}; use it without a word."
            )
        return tuple(
            _read_embedding(body, word or stored or adapter_title(file), key, body.sha256())
            for stored, key in usable.items()
        )


def read_embedding_file(
    path: Path, name: str | None = None
) -> tuple[str, tuple[Embedding, ...]] | None:
    """Base model and textual inversions of a file that has nothing else; None for other files.

    Raises MergeError for textual inversions of other base models.
    """
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        keys = list(body.header.tensors)
        if not _is_embedding_file(keys):
            return None
        sdxl = [key for key in keys if key == "clip_g"]  # SDXL's other text encoder
        for base in map(layer_tables.table, () if sdxl else layer_tables.TABLES):
            if usable_words(body.header, keys, base):
                return base.name, read_embeddings(path, base, name)
        raise MergeError(_refusal(body, sdxl or keys, layer_tables.table(layer_tables.TABLES[0])))


def _is_embedding_file(keys: list[str]) -> bool:
    """Whether all keys are of textual inversions; diffusers writes one, which may be any word."""
    if len(keys) == 1 and "." not in keys[0]:
        return True
    return all(
        unused_keys.kind(key) in (KIND, unused_keys.OUTPUT)
        or key in NAMELESS
        or key.startswith("string_to_")
        for key in keys
    )


def _word(key: str) -> str:
    if not key.startswith(BUNDLE):
        return "" if key in NAMELESS or "string_to_param" in key else key
    rest = key.removeprefix(BUNDLE).removesuffix(".*")
    return rest.rpartition(".")[0] or rest  # the word may have dots, the field has none


def _fits(info: TensorInfo, width: int) -> bool:
    return info.dtype in FLOATS and len(info.shape) in (1, 2) and info.shape[-1] == width


def _read_embedding(body: Body, word: str, key: str, sha256: str = "") -> Embedding:
    vectors = body.tensor(key).float()
    if not vectors.isfinite().all():
        raise MergeError(
            f"{body.file}: the textual inversion {word} has values that are not finite numbers; "
            "its training failed, or the file is damaged."
        )
    return Embedding(word, vectors.reshape(-1, vectors.shape[-1]), adapter_title(body.file), sha256)


def _refusal(body: Body, keys: Iterable[str], table: LayerTable) -> str:
    """Why a file has no textual inversion for this base."""
    for key in keys:
        shape = body.header.tensors[key].shape
        if len(shape) in (1, 2) and shape[-1] in (*ENCODERS, token_width(table)):
            base = ENCODERS.get(shape[-1], "another base model")
            return (
                f"{body.file} is a textual inversion for {base} (its vectors are {shape[-1]} "
                f"wide); {table.title} has {token_width(table)}."
            )
    return (
        f"{body.file} is no textual inversion (its first key is {next(iter(body.header.tensors))})"
        "; choose an embedding's .safetensors file."
    )
