"""Every option of a merge, declared once: its default, choices, flag, title and help.

The request, the page, the endpoint, the command line, recipes and comparisons are made from these
declarations. A new option is one more field of MergeOptions, and the place that reads it. Nothing
heavy is imported here, for the page shows the options at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from merging.option_field import STAGES, Option, option

# --- of a merge -----------------------------------------------------------------------------------
Targets = Literal["cross-attention", "attention", "all"]  # layers that are solved from prompts
Teacher = Literal["single", "tsv", "sum", "composed"]  # merging/calibration/teachers.py
Fallback = Literal["mean", "sum", "zero"]  # merging/linalg/closed_form.py
Mode = Literal["delta", "delta+residual", "full"]  # merging/linalg/closed_form.py
Weighting = Literal["merged", "delta", "relative", "uniform"]  # merging/linalg/row_set_weights.py
Padding = Literal["keep", "first-eos"]  # tokens after a prompt's end: counted, or left out
Tokens = Literal["all", "concept"]  # of a prompt: all of them count, or the trigger's alone
Rank = int | Literal["exact", "auto", "full"]  # "full" is exact where that is not low either

# --- of a picture, the machine and numbers --------------------------------------------------------
Sampler = Literal["DDIM", "Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "UniPC"]
MOST = 1e6  # of a merge's numbers: far beyond any use, far from what float64 cannot hold
DEVICES = ("auto", "cpu", "cuda", "mps")  # where a base model works
MAX_CLIP_SKIP = 12  # the text encoder of Stable Diffusion 1.x has twelve layers
Dtype = Literal["fp16", "bf16", "fp32"]  # of an adapter's file
Precision = Literal["auto", "fp32", "fp16", "bf16"]  # of the base model at work


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """How to merge. The defaults are the preset "best"; a merge's bytes depend on all of them."""

    method: str = option(
        "iteris",
        "Method",
        "How to merge; the table of methods lists them.",
        "method",
        "method",
        concerns="every method",
    )
    rank: Rank = option(
        "exact",
        "Rank of the result",
        "exact: the LoRAs' ranks added up; auto: what keeps 99.5 % of the change; full: also what "
        "has no low rank (a large file); or a number.",
        "rank",
        "result",
        concerns="every method",
    )
    targets: Targets = option(
        "attention",
        "Layers solved from prompts",
        "All others take the fallback.",
        "choice",
        "calibration",
        choices={
            "cross-attention": "text encoder + cross-attention (fast)",
            "attention": "text encoder + all attention",
            "all": "every layer",
        },
    )
    samples: int = option(
        50,
        "Calibration prompts per LoRA",
        "Made from the trigger, unless a LoRA has prompts of its own.",
        "whole",
        "calibration",
        lowest=1,
        highest=1000,
    )
    # Products cost as much as they have rows, and neighbours are much alike: every position of the
    # embedded base's 16 × 16 still counts.
    rows: int | None = option(
        256,
        "Positions of a picture",
        "At most so many count in layers that read the picture; fewer are faster.",
        "whole",
        "calibration",
        lowest=1,
        highest=1_000_000,
        unset="all of them",
        unset_word="all",
        unset_zero=True,
    )
    fallback: Fallback = option(
        "sum",
        "Where prompts say nothing",
        "What a layer does where no calibration prompt reaches.",
        "choice",
        "solver",
        choices={"mean": "share of each (gentle)", "sum": "plain sum (strong)", "zero": "nothing"},
    )
    ridge: float = option(
        1e-3,
        "Ridge α₂",
        "How much of the fallback comes in, relative to the Gram matrices.",
        "number",
        "solver",
        above=0,
        highest=MOST,
    )
    cross_ridge: float | None = option(
        None,
        "Cross ridge α₁",
        "In place of the fallback: α₁ = α₂ averages, 0 changes nothing.",
        "number",
        "solver",
        lowest=0,
        highest=MOST,
        unset="as the fallback asks",
    )
    mode: Mode = option(
        "delta+residual",
        "What of a LoRA is imitated",
        "The second shows all concepts more often; the first is exact at its rank.",
        "choice",
        "solver",
        choices={
            "delta": "its change (the paper's code)",
            "delta+residual": "its change, and what drifted on the way to the layer",
            "full": "whole weights",
        },
    )
    weighting: Weighting = option(
        "merged",
        "Balance of the LoRAs (λ)",
        "How much the prompts of each LoRA weigh.",
        "choice",
        "solver",
        concerns="merged inputs",
        flag="--lambda",
        choices={
            "merged": "by the layer's output (the paper's code)",
            "delta": "by the change's output",
            "relative": "every change alike",
            "uniform": "every prompt alike",
        },
    )
    padding: Padding = option(
        "keep",
        "Tokens after a prompt's end",
        "Which of them count.",
        "choice",
        "solver",
        choices={"keep": "all of them", "first-eos": "only the first"},
    )
    tokens: Tokens = option(
        "all",
        "Words of a prompt",
        "Which of them count.",
        "choice",
        "solver",
        choices={"all": "all words", "concept": "the trigger words alone"},
    )
    clip_skip: int = option(
        1,
        "Clip skip while learning",
        "2 leaves out the text encoder's last layer, as some LoRAs were trained; 1: none.",
        "whole",
        "calibration",
        lowest=1,
        highest=MAX_CLIP_SKIP,
    )
    # tsv was best on fifteen pairs for tuning (the ablation has the figures).
    teacher: Teacher = option(
        "tsv",
        "What the merge learns from",
        "Whether it is also calibrated on prompts that name two concepts, and who draws those.",
        "choice",
        "calibration",
        choices={
            "single": "each LoRA on its own prompts (the paper)",
            "tsv": "also prompts with two, as TSV of the two draws them",
            "sum": "also prompts with two, as their sum draws them",
            "composed": "also prompts with two, each LoRA in its own place",
        },
    )
    composed_weight: float = option(
        4.0,
        "Weight of prompts that name several",
        "One LoRA's own prompts weigh 1.",
        "number",
        "calibration",
        above=0,
        highest=MOST,
    )
    preserve: float | None = option(
        None,
        "Weight of prompts without any concept",
        "They keep everything else as it is.",
        "number",
        "calibration",
        lowest=0,
        highest=MOST,
        unset="0.3 beside prompts that name several, else 0",
    )
    rounds: int | None = option(
        None,
        "Rounds",
        "The paper's iteration, so many times; one pass gives what it leads to.",
        "whole",
        "solver",
        concerns="merged inputs",
        lowest=1,
        highest=100,
        unset="one pass",
    )
    refine: int = option(
        0,
        "Steps of refinement",
        "Training on pictures that the LoRAs paint together; 240 are usual, 0: none.",
        "whole",
        "result",
        concerns="every method",
        lowest=0,
        highest=5000,
    )
    seed: int = option(
        0,
        "Seed of the merge",
        "The same seed gives the same file.",
        "whole",
        "result",
        lowest=-(2**63),  # the range of torch's generators
        highest=2**63 - 1,
    )

    def __post_init__(self) -> None:
        """Turn a rank that is text into a number; MergeError for a value that is not allowed."""
        object.__setattr__(self, "rank", read_rank(self.rank))
        for name, declared in merge_options().items():
            declared.check(getattr(self, name))


def merge_options() -> dict[str, Option]:
    """Every option by the name of its field, in the order of declaration."""
    return {
        item.name: replace(
            item.metadata["option"],
            name=item.name,
            default=item.default,
            flag=item.metadata["option"].flag or f"--{item.name.replace('_', '-')}",
        )
        for item in fields(MergeOptions)
    }


def options_by_stage() -> list[Option]:
    """Every option in the order in which a page asks for them."""
    return sorted(merge_options().values(), key=lambda declared: STAGES.index(declared.stage))


def option_values(options: MergeOptions) -> dict[str, Any]:
    """The value of every option, by name."""
    return {name: getattr(options, name) for name in merge_options()}


def read_rank(value: Rank | str) -> Rank:
    """A rank from text such as "16"; anything else is returned as it is, for the check."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return int(text) if text.isdecimal() else text or value  # type: ignore[return-value]
