"""The change of one layer carried from one base model to another: least squares on activations.

    X (rows, in)   inputs of the layer in the old base with the LoRA
    X̃ (rows, in)   inputs for the same rows in the new base with what has been carried so far
    Δ = B A        the LoRA's change (out, in)
    μ              ridge, relative to ‖X̃ᵀX̃‖_F

The carried change gives on the new base's inputs what the LoRA gave on the old base's:

    Δ' = argmin ‖X Δᵀ − X̃ Δ'ᵀ‖² + μ ‖Δ' − Δ‖²  =  Δ (XᵀX̃ + μ I) (X̃ᵀX̃ + μ I)⁻¹

The least squares on features are PLeaS' second step (arXiv:2407.02447, eq. 3) with the LoRA's own
output as the feature, so that nothing of the old base is carried along. Its first step, matching
neurons by permutations, has nothing to do here: fine-tunes of one base have its neurons in its
order. The ridge pulls to Δ, not to 0: what no row tells of stays as the file has it, and on the old
base itself (X̃ = X) the answer is Δ. Δ' = B A' has the rank of Δ.
"""

from __future__ import annotations

from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta


def carried(problem: LayerProblem) -> Delta:
    """Δ' of the notation above, float64, for a problem of one LoRA with weighting "uniform".

    Raises MergeError, naming the layer, where X̃ᵀX̃ + μ I has no Cholesky factor.
    """
    (delta,) = problem.present
    right = problem.rhs.down + problem.ridge * delta.down
    return Delta(delta.up, problem.system.solve(right))
