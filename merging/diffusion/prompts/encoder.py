"""Prompts to text states: the text encoder itself for plain ones, compel for all others.

compel (https://github.com/damian0815/compel) scales an emphasised word's states away from those of
the empty prompt, moves those of a weak word towards the prompt without it, and encodes what is too
long for the encoder piece by piece. The pieces stand one behind the other in cross-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from compel.embeddings_provider import EmbeddingsProvider, SplitLongTextMode
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.tokens import Token, phrase_positions, text_ids, token_ids, tokens_of
from merging.errors import MergeError
from merging.text.syntax import Fragment, Part, Prompt

MOST_PIECES = 8  # of a prompt: the cost of cross-attention grows with them


def encode(base: Base, texts: Sequence[str], pieces: int = 1) -> Tensor:
    """Output of the text encoder as it is now, (texts, pieces · tokens, width).

    ``pieces`` is the most that a text of the batch has; shorter ones get pieces of nothing.
    """
    if pieces == 1 and all(_is_plain(text) for text in texts):
        return base.pipeline.text_encoder(text_ids(base, texts))[0]
    encoder = PromptEncoder(base)
    return torch.cat([encoder.states(text, pieces) for text in texts])


def token_row(base: Base, text: str) -> list[int]:
    """The ids of all pieces of a prompt, one behind the other; MergeError if they are too many."""
    length = base.pipeline.tokenizer.model_max_length
    ids = token_ids(base, text)
    if _is_plain(text) and len(ids) <= length:
        return ids
    ids = PromptEncoder(base).ids(text)
    if len(ids) > MOST_PIECES * length:
        raise MergeError(
            f"The prompt “{text[:60]}…” is longer than {MOST_PIECES} times what this base reads at "
            "once; shorten it."
        )
    return ids


def phrase_places(base: Base, text: str, phrases: Sequence[str]) -> list[list[int]]:
    """Where each phrase's tokens are in the prompt's `token_row`."""
    tokens, row = _tokens(base, text), token_row(base, text)
    length = base.pipeline.tokenizer.model_max_length
    places: list[int] = []  # of the tokens: between the starts, ends and paddings of the pieces
    for place, token in enumerate(row):
        found = len(places)
        if place % length and found < len(tokens) and token == tokens[found].id:
            places.append(place)
    positions = phrase_positions(base, text, phrases, tokens)
    return [[places[k] for k in own] for own in positions]


def piece_count(base: Base, text: str) -> int:
    """The number of pieces in which a prompt is read; MergeError if they are too many."""
    return -(-len(token_row(base, text)) // base.pipeline.tokenizer.model_max_length)


def _is_plain(text: str) -> bool:
    return not isinstance(text, Prompt) or text.is_plain


class PromptEncoder(EmbeddingsProvider):
    """compel's encoder, with the words of our textual inversions."""

    def __init__(self, base: Base) -> None:
        # compel looks for the ends of words by tokens, which those of textual inversions have not
        mode = SplitLongTextMode.BRUTAL if base.embedding_ids else SplitLongTextMode.WORDS
        super().__init__(
            base.pipeline.tokenizer,
            base.pipeline.text_encoder,
            dtype_for_device_getter=lambda _: base.dtype,
            truncate=False,
            split_long_text_mode=mode,
            device=base.device,
        )
        self.base = base

    def get_token_ids(self, texts: list[str], *_: object, **__: object) -> list[list[int]]:
        """compel's hook: the ids of every text, without start and end."""
        return [token_ids(self.base, text)[1:-1] for text in texts]

    def states(self, text: str, pieces: int) -> Tensor:
        """The states of one prompt, (1, pieces · tokens, width)."""
        parts = [
            self.get_embeddings_for_weighted_prompt_fragments(
                [[one.text for one in part]],
                [[one.weight for one in part]],
                device=self.base.device,
            )
            for part in _parts(text)
        ]
        states = torch.cat(parts, dim=1)
        missing = pieces - states.shape[1] // self.max_token_count
        return torch.cat([states, *[self._nothing] * missing], dim=1)

    @cached_property
    def _nothing(self) -> Tensor:
        """The states of the empty prompt, (1, tokens, width)."""
        return self.base.pipeline.text_encoder(text_ids(self.base, [""]))[0]

    def ids(self, text: str) -> list[int]:
        """The ids of all pieces of a prompt as compel lays them out."""
        rows = [
            self.get_token_ids_and_expand_weights(
                [one.text for one in part], [one.weight for one in part], device="cpu"
            )[0]
            for part in _parts(text)
        ]
        return torch.cat(rows).tolist()


def _tokens(base: Base, text: str) -> list[Token]:
    """The tokens of all stretches of a prompt, each stretch for itself, as compel reads them."""
    tokens: list[Token] = []
    place = 0
    for part in _parts(text):
        for one in part:
            tokens += tokens_of(base, one.text, place)
            place += len(one.text)
        place += any(one.text for one in part)  # the blank that stands for a BREAK
    return tokens


def _parts(text: str) -> tuple[Part, ...]:
    return text.parts if isinstance(text, Prompt) else ((Fragment(text),),)
