"""The merged model while it is trained: its factors are parameters, the base's weights are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from merging.adapter import VectorDelta
from merging.diffusion.base import Base, latent_side
from merging.diffusion.layer_ops import Module, output_change
from merging.linalg.delta import MERGED_DTYPE, Delta

CHECKPOINTED_SIDE = 32  # side of a latent from which activations are computed twice, not kept


class Student:
    """Δ = up @ down of every merged layer, in float32 on the base's device."""

    def __init__(
        self, base: Base, start: Mapping[str, Delta], shifts: Mapping[str, VectorDelta]
    ) -> None:
        """Start from a merge; its factors are scaled to the same norm, Δ stays."""
        self.base, self.shifts = base, shifts
        self.factors = {name: _balanced(base, delta) for name, delta in start.items()}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All factors."""
        return [factor for pair in self.factors.values() for factor in pair]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The base with the factors as they are now; gradients reach them."""
        with ExitStack() as undo:
            for name, (up, down) in self.factors.items():
                hook = self.base.modules[name].register_forward_hook(_hook(up, down))
                undo.callback(hook.remove)
            undo.enter_context(self.base.changed(self.shifts))
            yield

    def layers(self) -> dict[str, Delta]:
        """Layer → change, as the training left it."""
        cpu = torch.device("cpu")
        return {
            name: Delta(up.detach(), down.detach()).to(cpu, MERGED_DTYPE)
            for name, (up, down) in self.factors.items()
        }


def _balanced(base: Base, delta: Delta) -> tuple[nn.Parameter, nn.Parameter]:
    """Factors of the same norm, for AdamW moves all numbers at one rate."""
    scale = (delta.up.norm() / delta.down.norm().clamp_min(1e-12)).sqrt().clamp_min(1e-12)
    up, down = delta.up / scale, delta.down * scale
    return tuple(nn.Parameter(f.to(base.device, torch.float32).clone()) for f in (up, down))  # type: ignore[return-value] # two of them


def _hook(up: nn.Parameter, down: nn.Parameter) -> Callable:
    def hook(module: Module, inputs: tuple, output: Tensor) -> Tensor:
        x = inputs[0]
        return output + output_change(module, x, Delta(up.to(x.dtype), down.to(x.dtype)))

    return hook


def autocast(base: Base) -> AbstractContextManager:
    """bfloat16 on a GPU, for gradients leave float16's range; many CPUs imitate it, slowly."""
    if base.device.type != "cuda":
        return nullcontext()
    return torch.autocast(base.device.type, torch.bfloat16)


@contextmanager
def trainable(base: Base) -> Iterator[None]:
    """The base made ready to be trained through; as it was before afterwards."""
    unet, encoder = base.pipeline.unet, base.pipeline.text_encoder
    frozen = [one for one in (*unet.parameters(), *encoder.parameters()) if one.requires_grad]
    usual = unet.attn_processors
    try:
        for one in frozen:
            one.requires_grad_(False)
        if base.device.type == "cpu":
            unet.set_attn_processor(AttnProcessor())  # half the time of SDPA's way back on a CPU
        if latent_side(base) >= CHECKPOINTED_SIDE:
            unet.enable_gradient_checkpointing()
        yield
    finally:
        unet.disable_gradient_checkpointing()
        unet.set_attn_processor(usual)
        for one in frozen:
            one.requires_grad_(True)
