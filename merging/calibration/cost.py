"""What a merge costs, for a progress bar that is to move as time does."""

from __future__ import annotations

from merging.calibration.prompts import is_style
from merging.calibration.refine_size import RefineCost, refine_cost
from merging.calibration.row_sets import row_sets
from merging.methods import METHODS
from merging.request import MergeRequest

# All in predictions of the UNet for one latent, measured on the embedded base on a CPU. Samples
# leave a trajectory of ten steps at its steps 0 to 9 in turn.
SAMPLING = 4.5
PASS = 1.25  # per sample and model, with the products of its inputs
WEIGHTS_ALONE = 10.0  # a merge without prompts


def merge_cost(request: MergeRequest) -> float:
    """About how many predictions of the UNet take as long as this merge."""
    refining = refinement(request)
    return unrefined_cost(request) + (refining.total if refining else 0.0)


def refinement(request: MergeRequest) -> RefineCost | None:
    """What its refinement costs; None if there is none, as for one LoRA, its own merge."""
    if not (request.refine and len(request.sources) > 1):
        return None
    styles = sum(is_style(source.words) for source in request.sources)
    return refine_cost(len(request.sources), styles, request.refine)


def unrefined_cost(request: MergeRequest) -> float:
    """What comes before a refinement."""
    method = METHODS[request.method]
    if not method.calibrated:
        return WEIGHTS_ALONE
    samples = sum(len(row_set.prompts) for row_set in row_sets(request))
    models = 2 if method.needs == "merged inputs" else 1
    return WEIGHTS_ALONE + samples * (SAMPLING + models * PASS * (request.rounds or 1))
