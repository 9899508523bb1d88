"""Textual inversions packed into a LoRA's file: words of their own that its prompts may need.

A1111 and LyCORIS write ``bundle_emb.<word>.string_to_param.*`` (with other fields beside it),
OneTrainer ``bundle_emb.<word>.clip_l``; others put ``emb_params`` or the word itself, ``<word>``.
"""

from __future__ import annotations

from collections.abc import Iterable

from merging.formats.header import Header

BUNDLE = "bundle_emb."


def words(keys: Iterable[str]) -> dict[str, list[str]]:
    """Each word that the file brings, and its keys; "" where the file does not name it."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(_word(key), []).append(key)
    return found


def _word(key: str) -> str:
    if not key.startswith(BUNDLE):
        return key if key.startswith("<") else ""
    rest = key.removeprefix(BUNDLE).removesuffix(".*")
    return rest.rpartition(".")[0] or rest  # a word may have dots of its own, a field has none


def vectors(header: Header, keys: Iterable[str]) -> int:
    """How many token vectors a word stands for."""
    shapes = (header.tensors[key].shape for key in keys)
    return sum(shape[0] for shape in shapes if len(shape) == 2)


def sentence(header: Header, keys: list[str]) -> str:
    """What is said of them."""
    told = [
        f"{word or 'one without a name'} ({vectors(header, own)} vectors)"
        for word, own in words(keys).items()
    ]
    return (
        f"Textual inversions inside the file left out: {', '.join(told)}; a LoRA cannot hold them, "
        "so load them as embeddings of their own where its prompts use these words."
    )
