"""The sum after large LoRAs were scaled down (norm consistency, after arXiv:2507.05678)."""

from __future__ import annotations

from statistics import median

from merging.linalg.closed_form import LayerProblem, zero_delta
from merging.linalg.core_space import active_loras
from merging.linalg.delta import Delta, sum_deltas

GAMMA = 0.5  # 0 leaves all LoRAs as they are, 1 scales large ones down to the median


def equalised(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i min(1, (median_j ‖D_j‖ / ‖D_i‖)^γ) Δ_i, D_i being Δ_i at strength 1.

    The strengths are applied afterwards, so that raising one has its usual effect.
    """
    loras = active_loras(problem)
    if not loras:
        return zero_delta(problem)
    norms = [lora.delta.norm() / abs(lora.strength) for lora in loras]
    typical = median(norms)
    factors = [min(1.0, (typical / norm) ** GAMMA) for norm in norms]
    return sum_deltas([lora.delta for lora in loras], factors)
