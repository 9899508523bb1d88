"""The request of a merge, built by the page, the command line, the API and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import apply_block_weights
from merging.embedding import Embedding, distinct_embeddings
from merging.errors import MergeError
from merging.methods import METHODS
from merging.options import MAX_CLIP_SKIP, MergeOptions, Tokens
from merging.text.phrases import repeated
from merging.text.syntax import parse_prompt, plain_text

MAX_SOURCES = 16
MAX_STRENGTH = 10.0
COMPOSED_PRESERVE = 0.3


@dataclass(frozen=True)
class Source:
    """One LoRA of a merge, with the user's settings for it."""

    adapter: Adapter
    strength: float = 1.0  # as in <lora:name:strength>; negative and above 1 are allowed
    trigger: str = ""  # trigger phrase; "" is the one in the file
    prompts: tuple[str, ...] = ()  # calibration prompts; () makes them from the phrase
    text_encoder: float = 1.0  # times the strength
    unet: float = 1.0  # times the strength
    blocks: Mapping[str, float] | None = None  # merging/block_weights.py; times all of the above
    origin: str = ""  # owner/repo/file@commit where it is from the Hub

    @property
    def weighted_adapter(self) -> Adapter:
        """The adapter with part and block weights applied, before the strength."""
        if self.blocks is None and self.text_encoder == self.unet == 1:
            return self.adapter
        return apply_block_weights(self.adapter, self.text_encoder, self.unet, self.blocks)

    @property
    def phrase(self) -> str:
        """The trigger phrase of this concept as it is typed, "" if it is unknown."""
        return self.trigger.strip() or self.adapter.trigger.strip()

    @property
    def words(self) -> str:
        """The trigger phrase without A1111's syntax: what is looked for in prompts."""
        return plain_text(self.phrase)

    @property
    def clip_skip(self) -> int:
        """What it was trained with, by kohya's header: 2 is without the encoder's last layer."""
        layers = self.adapter.metadata.get("ss_clip_skip", "")
        number = int(layers) if layers.isdecimal() and len(layers) < 3 else 1
        return number if 1 <= number <= MAX_CLIP_SKIP else 1

    @property
    def step(self) -> int | None:
        """The training step of the file, from kohya's header; None without one."""
        steps = self.adapter.metadata.get("ss_steps", "")
        return int(steps) if steps.isdecimal() else None


@dataclass(frozen=True)
class MergeRequest(MergeOptions):
    """Everything that decides the bytes of a merge: the sources, and the options by keyword."""

    sources: tuple[Source, ...]
    embeddings: tuple[Embedding, ...] = ()  # in addition to those inside the adapters

    @property
    def based(self) -> bool:
        """Whether the result depends on the base model's weights: by the method or by a file."""
        by_file = any(source.adapter.based for source in self.sources)
        return by_file or self.refine > 0 or METHODS[self.method].needs != "nothing"

    @property
    def all_embeddings(self) -> tuple[Embedding, ...]:
        """All textual inversions; MergeError if two different ones have the same word."""
        return distinct_embeddings(self._embeddings())

    @property
    def preserve_weight(self) -> float:
        """The weight of preserved prompts: the option ``preserve``, or its default."""
        if METHODS[self.method].on_phrases:
            return self.preserve or 1.0  # needed by the method; its value makes no difference
        if self.preserve is not None:
            return self.preserve
        # A single LoRA has no pairs, and its merge is the LoRA itself.
        composed = self.teacher != "single" and len(self.sources) > 1
        return COMPOSED_PRESERVE if composed else 0.0

    @property
    def counted_tokens(self) -> Tokens:
        """The option ``tokens``, except where the method fixes it."""
        return "concept" if METHODS[self.method].on_phrases else self.tokens

    def __post_init__(self) -> None:
        """Raises MergeError for values that cannot be merged with."""
        super().__post_init__()
        _check_sources(self.sources)
        _check_method(self)
        distinct_embeddings(self._embeddings())

    def _embeddings(self) -> Iterator[Embedding]:
        """Those inside the adapters, then the others, with repeats."""
        for source in self.sources:
            yield from source.adapter.embeddings
        yield from self.embeddings


def _check_sources(sources: tuple[Source, ...]) -> None:
    if not 1 <= len(sources) <= MAX_SOURCES:
        raise MergeError(f"A merge needs 1 to {MAX_SOURCES} LoRAs, not {len(sources)}.")
    hashes = [source.adapter.sha256 for source in sources if source.adapter.sha256]
    for source in sources:
        if hashes.count(source.adapter.sha256) > 1:
            raise MergeError(
                f"{source.adapter.name}: the same file is listed twice; raise its strength instead."
            )
    bases = {source.adapter.base: source.adapter.name for source in sources}
    if len(bases) > 1:
        listed = ", ".join(f"{name} is for {base}" for base, name in bases.items())
        raise MergeError(
            f"The LoRAs are for different bases ({listed}); merge LoRAs of one base only."
        )
    for source in sources:
        _check_strengths(source)


def _check_strengths(source: Source) -> None:
    """Check the strength of the LoRA, of its parts and of its blocks."""
    blocks = source.blocks or {}
    if unknown := [block for block in blocks if block not in BLOCKS]:
        raise MergeError(
            f"{source.adapter.name}: no block is called {unknown[0]}; there are "
            f"{', '.join(BLOCKS)}."
        )
    for factor in (1.0, source.text_encoder, source.unet, *blocks.values()):
        if not abs(source.strength * factor) <= MAX_STRENGTH:
            raise MergeError(
                f"{source.adapter.name}: strength {source.strength * factor:g} is outside "
                f"−{MAX_STRENGTH:g} … {MAX_STRENGTH:g}."
            )


def _check_method(request: MergeRequest) -> None:
    if request.method not in METHODS:
        raise MergeError(f"No method is called {request.method!r}; there are {', '.join(METHODS)}.")
    if METHODS[request.method].calibrated:
        _check_phrases(request)


def _check_phrases(request: MergeRequest) -> None:
    """Calibration prompts are made from trigger phrases; pairs need a different one per LoRA."""
    for source in request.sources:
        if not source.phrase and not source.prompts:
            raise MergeError(
                f"{source.adapter.name}: no trigger phrase in the file; type the one that it was "
                "trained with, or type calibration prompts for it."
            )
        for text in (source.phrase, *source.prompts):
            parse_prompt(text)
    phrases = [source.words for source in request.sources]
    distinct = all(phrases) and not repeated(phrases)
    if request.teacher != "single" and len(phrases) > 1 and not distinct:
        raise MergeError(
            f"The teacher “{request.teacher}” needs a different trigger phrase for every LoRA; "
            f"these are: {', '.join(phrase or 'none' for phrase in phrases)} (capitals are read as "
            "small letters). Type them, or choose the teacher “single”."
        )
