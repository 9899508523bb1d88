"""What a merge is asked to do: the one object that the page, the command line and Python build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import weighted
from merging.embedding import Embedding, together
from merging.errors import MergeError
from merging.methods import METHODS
from merging.options import Fallback, Mode, Padding, Rank, Targets, Teacher, Tokens, Weighting

MAX_SOURCES = 16
MAX_STRENGTH = 10.0
COMPOSED_PRESERVE = 0.3
_CHOICES = {
    "targets": get_args(Targets),
    "fallback": get_args(Fallback),
    "mode": get_args(Mode),
    "weighting": get_args(Weighting),
    "teacher": get_args(Teacher),
    "padding": get_args(Padding),
    "tokens": get_args(Tokens),
}


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
class MergeRequest:
    """Everything that decides the bytes of a merge. Its own validation is the only one."""

    sources: tuple[Source, ...]
    method: str = "iteris"
    rank: Rank = "exact"
    targets: Targets = "attention"
    samples: int = 50  # calibration prompts per LoRA
    # Most positions of one picture that count; None: all. Products cost as much as they have rows,
    # and neighbours tell the same: every position of the embedded base's 16 × 16 still counts.
    rows: int | None = 256
    # Chosen under the composed teacher, on three pairs and by a detector that was replaced since;
    # beside the residual the fallback hardly matters (merging/evaluation/ablation.md).
    fallback: Fallback = "sum"  # where the calibration is silent
    ridge: float = 1e-3  # the paper's α₂, relative to the Gram matrices
    cross_ridge: float | None = None  # the paper's α₁; None: what the fallback asks for
    mode: Mode = "delta"  # what is imitated, as merging/linalg/closed_form.py explains
    weighting: Weighting = "merged"  # the paper's λ, as merging/linalg/row_set_weights.py explains
    padding: Padding = "keep"
    tokens: Tokens = "all"
    teacher: Teacher = "single"  # the others add prompts with two concepts, and say who draws both
    # Their weight, where one LoRA's own prompts count 1: chosen on the tuning pairs (ablation.md).
    composed_weight: float = 4.0
    # Weight of prompts without any trigger, whose target is no change; None is COMPOSED_PRESERVE
    # beside composed prompts, which need it (alone they were half as good in a trial), else 0.
    preserve: float | None = None
    rounds: int | None = None  # None: the fixed point in one pass; k: the paper's k rounds
    seed: int = 0
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
        default = 0.0 if self.teacher == "single" else COMPOSED_PRESERVE
        return default if self.preserve is None else self.preserve

    @property
    def counted(self) -> Tokens:
        """The tokens that count, whatever is asked for."""
        return "concept" if METHODS[self.method].on_phrases else self.tokens

    def __post_init__(self) -> None:
        """MergeError for what the user can mend."""
        _check_sources(self.sources)
        _check_choices(self)
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


def _check_choices(request: MergeRequest) -> None:
    if request.method not in METHODS:
        raise MergeError(f"No method is called {request.method!r}; there are {', '.join(METHODS)}.")
    for field, choices in _CHOICES.items():
        if getattr(request, field) not in choices:
            raise MergeError(
                f"{field} must be one of {', '.join(choices)}, not {getattr(request, field)!r}."
            )
    if isinstance(request.rank, int) and request.rank < 1:
        raise MergeError(f"The rank must be exact, auto, full or at least 1, not {request.rank}.")
    if not 1 <= request.samples <= 1000:
        raise MergeError(f"Samples per LoRA must be 1 to 1000, not {request.samples}.")
    if request.rows is not None and request.rows < 1:
        raise MergeError(f"Rows per picture must be all or at least 1, not {request.rows}.")
    if request.composed_weight <= 0:
        raise MergeError(
            f"Prompts with all concepts must weigh more than {request.composed_weight:g}; "
            "the teacher “single” leaves them out."
        )
    if request.ridge <= 0 or (request.cross_ridge or 0) < 0 or (request.preserve or 0) < 0:
        raise MergeError(
            "The ridge must be above 0, the cross ridge and the weight of preserved rows not below."
        )
    if request.rounds is not None and request.rounds < 1:
        raise MergeError(f"Rounds must be at least 1, not {request.rounds}.")
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
    if request.teacher != "single" and not (all(phrases) and len(set(phrases)) == len(phrases)):
        raise MergeError(
            f"The teacher “{request.teacher}” needs a trigger phrase for every LoRA, each another "
            f"one; found: {', '.join(phrase or 'none' for phrase in phrases)}."
        )
