"""Properties of a layer's input, by the layer's name."""

from __future__ import annotations

from collections.abc import Sequence


def shared_input(layer: str) -> str:
    """A key for the layer's input: q, k, v of one attention share it, and all text K and V do."""
    block, _, leaf = layer.rpartition(".")
    if leaf in ("to_k", "to_v") and block.endswith("attn2"):
        return "text states"
    if leaf in ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj"):
        return block
    return layer


def reads_text(layer: str) -> bool:
    """True where the rows are tokens: the text encoder, and K and V of cross-attention."""
    return layer.startswith("text_encoder.") or shared_input(layer) == "text states"


def needs_latents(targets: Sequence[str]) -> bool:
    """Whether pictures must be sampled; False when all targets read text only."""
    return not all(reads_text(layer) for layer in targets)
