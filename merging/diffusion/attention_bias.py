"""A bias on attention scores: softmax(q kᵀ / √d + bias), for the time of a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from merging.diffusion.base import Base

# positions of the attention's queries → bias (samples, positions, keys), or one for all samples
Bias = Callable[[int], Tensor]


@contextmanager
def biased(base: Base, kind: Literal["attn1", "attn2"], bias: Bias) -> Iterator[None]:
    """The UNet with this bias in all self-attention (attn1) or all cross-attention (attn2)."""

    def hook(_block: nn.Module, inputs: tuple, options: dict[str, Any]) -> tuple:
        states: Tensor = inputs[0] if inputs else options["hidden_states"]
        shared = bias(states.shape[1]).to(states)
        mask = shared.expand(len(states), *shared.shape[1:])
        return inputs, options | {"attention_mask": mask}

    with ExitStack() as undo:
        for name, block in base.pipeline.unet.named_modules():
            if name.endswith(f".{kind}"):
                handle = block.register_forward_pre_hook(hook, with_kwargs=True)
                undo.callback(handle.remove)
        yield
