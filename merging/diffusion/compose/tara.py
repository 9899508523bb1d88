"""TARA's token mask (arXiv:2508.08812): LoRA i changes text keys and values of its trigger alone.

K = X W_Kᵀ + mᵢ ⊙ (X ΔW_Kᵀ), V likewise; mᵢ is 1 at the tokens of trigger i, else 0. Queries and all
other layers get the sum. The paper's LoRAs are trained under this mask; ordinary ones are not, and
may lose what they do through other tokens. The text encoder's layers are masked as keys are: the
paper trains none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from merging.diffusion.attention_maps import phrase_masks
from merging.diffusion.compose.gated import TokenGated


class TokenMask(TokenGated):
    """One pass; positions of the picture all have weight 1."""

    def token_weights(self, texts: Sequence[str]) -> Tensor:
        """mᵢ."""
        return phrase_masks(self.scene.base, texts, self.scene.triggers)
