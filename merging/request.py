"""What a merge is asked to do: the one object that the page, the command line and Python build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import weighted
from merging.embedding import Embedding, together
from merging.errors import MergeError
from merging.methods import METHODS
from merging.options import MergeOptions, Tokens

MAX_SOURCES = 16
MAX_STRENGTH = 10.0
COMPOSED_PRESERVE = 0.3


@dataclass(frozen=True)
class Source:
    """One LoRA of a merge, as the user set it."""

    adapter: Adapter
    strength: float = 1.0  # as in <lora:name:strength>; negative and above 1 are allowed
    trigger: str = ""  # "" takes the adapter's own
    prompts: tuple[str, ...] = ()  # calibration prompts; () makes them from the trigger
    text_encoder: float = 1.0  # times the strength
    unet: float = 1.0  # times the strength
    blocks: Mapping[str, float] | None = None  # as merging/block_weights.py has it; times all
    origin: str = ""  # owner/repo/file@commit where it is from the Hub

    @property
    def weighted(self) -> Adapter:
        """The adapter with its parts and blocks weighted, before the strength."""
        if self.blocks is None and self.text_encoder == self.unet == 1:
            return self.adapter
        return weighted(self.adapter, self.text_encoder, self.unet, self.blocks)

    @property
    def phrase(self) -> str:
        """The words that call this concept, "" if nobody knows them."""
        return self.trigger.strip() or self.adapter.trigger.strip()

    @property
    def step(self) -> int | None:
        """The training step at which kohya's trainer wrote the file, None if it does not say."""
        found = self.adapter.metadata.get("ss_steps", "")
        return int(found) if found.isdecimal() else None


@dataclass(frozen=True)
class MergeRequest(MergeOptions):
    """Everything that decides the bytes of a merge: the sources, and the options by keyword."""

    sources: tuple[Source, ...]
    embeddings: tuple[Embedding, ...] = ()  # beside those that the adapters bring

    @property
    def based(self) -> bool:
        """Whether the base model's weights have a part in it: for the method, or for a file."""
        read = any(source.adapter.based for source in self.sources)
        return read or METHODS[self.method].needs != "nothing"

    @property
    def words(self) -> tuple[Embedding, ...]:
        """All words with vectors of their own; MergeError if two cannot be told apart."""
        brought = (each for source in self.sources for each in source.adapter.embeddings)
        return together((*brought, *self.embeddings))

    @property
    def preserved(self) -> float:
        """The weight of preserved prompts that holds."""
        if METHODS[self.method].on_phrases:
            return self.preserve or 1.0  # it cannot do without them, and any weight is the same
        if self.preserve is not None:
            return self.preserve
        # A LoRA alone has nothing to be composed with, and gives itself back.
        composed = self.teacher != "single" and len(self.sources) > 1
        return COMPOSED_PRESERVE if composed else 0.0

    @property
    def counted(self) -> Tokens:
        """The tokens that count, whatever is asked for."""
        return "concept" if METHODS[self.method].on_phrases else self.tokens

    def __post_init__(self) -> None:
        """MergeError for what the user can mend."""
        super().__post_init__()
        _check_sources(self.sources)
        _check_method(self)
        _ = self.words  # two that cannot be told apart are refused


def _check_sources(sources: tuple[Source, ...]) -> None:
    if not 1 <= len(sources) <= MAX_SOURCES:
        raise MergeError(f"A merge takes 1 to {MAX_SOURCES} LoRAs; {len(sources)} were given.")
    hashes = [source.adapter.sha256 for source in sources if source.adapter.sha256]
    for source in sources:
        if hashes.count(source.adapter.sha256) > 1:
            raise MergeError(
                f"{source.adapter.name}: the same file is given twice; raise its strength instead."
            )
    bases = {source.adapter.base: source.adapter.name for source in sources}
    if len(bases) > 1:
        listed = ", ".join(f"{name} is for {base}" for base, name in bases.items())
        raise MergeError(f"The LoRAs are for different bases ({listed}); merge like with like.")
    for source in sources:
        _check_strengths(source)


def _check_strengths(source: Source) -> None:
    """Of the whole, of its parts and of its blocks."""
    blocks = source.blocks or {}
    if strange := [block for block in blocks if block not in BLOCKS]:
        raise MergeError(f"{source.adapter.name}: no block is called {strange[0]}.")
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
    """Prompts are made from phrases, and those with two concepts say which by them."""
    for source in request.sources:
        if not source.phrase and not source.prompts:
            raise MergeError(
                f"{source.adapter.name}: no trigger phrase in the file; type the words that "
                "call its concept, or give it prompts of its own."
            )
    phrases = [source.phrase for source in request.sources]
    apart = all(phrases) and len(set(phrases)) == len(phrases)
    if request.teacher != "single" and len(phrases) > 1 and not apart:
        raise MergeError(
            f"The teacher “{request.teacher}” needs a trigger phrase for every LoRA, each another "
            f"one; found: {', '.join(phrase or 'none' for phrase in phrases)}. Name "
            "them, or choose the teacher “single”."
        )
