"""The functions of `import merging` (read, inspect, merge), with plain paths.

Methods that use weights only need no base model. Torch and diffusers are imported by the calls
that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from merging import formats
from merging.adapter import Adapter
from merging.analysis.summary import EmbeddingSummary, LoraSummary, summary
from merging.methods import METHODS
from merging.report import Watch, no_watch
from merging.request import MergeRequest
from merging.runtime.progress import Progress, Stop, never, silent
from merging.text.syntax import has_weights

if TYPE_CHECKING:
    from merging.diffusion.base import Base
    from merging.engine import MergeResult


def read(path: str | Path, base: Base | None = None, leave_out: bool = False) -> Adapter:
    """A LoRA file of any family, its factors in float32.

    Without ``base`` the base model is recognised by names and shapes; DoRA, IA³, OFT and GLoRA
    need ``base`` for its weights. Raises MergeError for a file that cannot be used, and for one
    with changes that no layer of the base can have, which ``leave_out`` leaves out.
    """
    if base is None:
        return formats.read(Path(path), leave_out=leave_out)
    return formats.read(Path(path), base.table, weights=base.weight, leave_out=leave_out)


def inspect(
    path: str | Path, values: bool = False, base: Base | None = None
) -> EmbeddingSummary | LoraSummary:
    """What an adapter file is, as `iteris inspect --json` prints it; with ``values``, norms too.

    Raises MergeError for a file that cannot be used.
    """
    return summary(Path(path), values, None if base is None else base.weight)


def merge(
    request: MergeRequest,
    base: Base | None = None,
    progress: Progress = silent,
    stop: Stop = never,
    watch: Watch = no_watch,
    checkpoint: Path | None = None,
) -> MergeResult:
    """Merge the request's LoRAs into one adapter, on ``base`` where the method needs a model.

    ``watch`` gets the report of a layer as soon as it is solved. A refinement that was interrupted
    goes on from what is in the folder ``checkpoint``, which is made if it is refined, and may be
    removed once the merge is saved. The report's notes begin with what is unusual in the LoRAs'
    weights. Raises MergeError for wrong input, Cancelled once ``stop`` turns true.
    """
    from merging import engine  # imports torch
    from merging.analysis.findings import findings, sentences

    unusual = sentences(findings([source.adapter for source in request.sources]))
    if base is None:
        result = engine.merge(request, None, progress, stop, watch)
    else:
        from merging.diffusion.calibrate import activations  # imports diffusers
        from merging.diffusion.refine.run import refiner

        model = activations(base)
        result = engine.merge(request, model, progress, stop, watch, refiner(base, checkpoint))
        result.report.notes += _syntax_notes(request)
    result.report.notes[:0] = unusual
    return result


def _syntax_notes(request: MergeRequest) -> list[str]:
    """A sentence on every LoRA whose prompts have A1111's emphasis, which acts in pictures."""
    if not METHODS[request.method].calibrated:
        return []
    return [
        f"{source.adapter.name}: the merge learned all words of its prompts alike; weights such as "
        "(word:1.3) act in pictures."
        for source in request.sources
        if any(map(has_weights, (source.phrase, *source.prompts)))
    ]
