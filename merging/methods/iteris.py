"""IterIS (CVPR 2025, arXiv:2411.15231): RegMean on the merged model's own inputs."""

from __future__ import annotations

from merging.linalg.closed_form import LayerProblem, solve_rows
from merging.linalg.delta import Delta


def iteris(problem: LayerProblem) -> Delta:
    """Δ* of merging/linalg/closed_form.py, in the request's mode; X̃ comes from the merged model.

    Called layer by layer in forward order (merging/diffusion/lockstep.py) it gives the fixed point
    that the paper's iteration converges to.
    """
    return solve_rows(problem)
