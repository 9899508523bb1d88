"""Maps of the cross-attention to phrases of the prompt, summed while a picture is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.layer_ops import Layer
from merging.diffusion.tokens import phrase_positions


class AttentionRecorder:
    """Sums the attention to phrases over all cross-attention layers and all steps.

    As DAAM (arXiv:2210.04885), but every layer's map is divided by its mean, so that layers of all
    sizes count the same.
    """

    def __init__(
        self, base: Base, concepts: Tensor, size: Sequence[int], *, graph: bool = False
    ) -> None:
        """``concepts`` (samples, tokens, phrases) is 1 at a phrase's tokens.

        The samples are the last ones of the model's batch; ``size`` is height and width of the
        latent. With ``graph``, the evidence can be differentiated.
        """
        self.graph = graph
        self.base, self.concepts = base, concepts.to(base.device)
        self.evidence = torch.zeros(len(concepts), concepts.shape[2], *size, device=base.device)
        self._queries: Tensor | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every cross-attention layer; all hooks are removed afterwards."""
        with ExitStack() as undo:
            for name, layer in self.base.layers.items():
                if name.endswith("attn2.to_q"):
                    undo.callback(layer.register_forward_hook(self._query).remove)
                if name.endswith("attn2.to_k"):
                    heads = self._heads(name)
                    undo.callback(layer.register_forward_hook(self._key(heads)).remove)
            yield

    def maps(self) -> Tensor:
        """(samples, phrases, height, width), 1 on average; 0 where the prompt lacks the phrase."""
        mean = self.evidence.mean(dim=(2, 3), keepdim=True)
        return (self.evidence / mean.clamp_min(1e-12)).cpu()

    def _query(self, _layer: Layer, _inputs: tuple, output: Tensor) -> None:
        self._queries = output

    def _key(self, heads: int) -> Callable:
        def hook(_layer: Layer, _inputs: tuple, keys: Tensor) -> None:
            assert self._queries is not None  # to_q is always called before to_k
            count = len(self.concepts)
            scores = attention(self._queries[-count:], keys[-count:], heads)
            self._add(scores if self.graph else scores.detach())

        return hook

    def _add(self, scores: Tensor) -> None:
        """Add one layer's attention (samples, positions, tokens)."""
        maps = (scores.float() @ self.concepts.to(scores.device)).transpose(1, 2)
        maps = maps / maps.mean(dim=2, keepdim=True).clamp_min(1e-12)
        height, width = self.evidence.shape[2:]
        shrink = (height * width / maps.shape[2]) ** 0.5
        maps = maps.unflatten(2, (round(height / shrink), round(width / shrink)))
        self.evidence += F.interpolate(maps, size=(height, width), mode="bilinear")

    def _heads(self, name: str) -> int:
        block = name.removeprefix("unet.").rpartition(".")[0]
        return self.base.pipeline.unet.get_submodule(block).heads


def attention(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """softmax(q kᵀ / √d), averaged over heads: (samples, positions, tokens)."""
    q = queries.unflatten(2, (heads, -1)).transpose(1, 2)
    k = keys.unflatten(2, (heads, -1)).transpose(1, 2)
    return (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)


def phrase_masks(base: Base, prompts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """1 where a prompt's token belongs to a phrase: (prompts, tokens, phrases)."""
    length = base.pipeline.tokenizer.model_max_length
    marks = torch.zeros(len(prompts), length, len(phrases))
    for marked, prompt in zip(marks, prompts, strict=True):
        for i, positions in enumerate(phrase_positions(base, prompt, phrases)):
            marked[[k + 1 for k in positions], i] = 1
    return marks
