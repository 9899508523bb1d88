"""How much each trigger's words change the prompt (arXiv:2606.03792): weights of the LoRAs.

dᵢ = 1 − cos(e(prompt), e(prompt without trigger i)), e the text encoder's output at the end token;
wᵢ = dᵢ / Σⱼ dⱼ. The paper weighs each LoRA by the influence of its trigger words on the prompt and
gives W-Switch and W-Composite; e and this distance are ours, since the base has no other text
features. e is of LoRA i's own text encoder, where a trigger has its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.compose.composer import Variant
from merging.diffusion.compose.scene import Scene
from merging.diffusion.tokens import text_ids
from merging.text.phrases import phrase_spans

JOINTS = ("and", "with", "next to", "beside", "near", "in", ",")
ARTICLES = ("a", "an", "the")
MARK = "\0"  # stands for the phrase while it is cut out


def word_weights(scene: Scene, loras: Sequence[Variant]) -> Tensor:
    """(pictures, LoRAs), rows that sum to 1; equal where no trigger is in the prompt."""
    pairs = zip(loras, scene.triggers, strict=True)
    return relative(torch.stack([_influence(scene, *pair) for pair in pairs], dim=1))


def relative(influences: Tensor) -> Tensor:
    """Rows (pictures, LoRAs) divided by their sums; equal shares where a row is 0."""
    total = influences.sum(dim=1, keepdim=True)
    share = influences / total.clamp_min(1e-12)
    return torch.where(total > 1e-6, share, 1 / influences.shape[1])


def _influence(scene: Scene, lora: Variant, trigger: str) -> Tensor:
    """1 − cosine of the end states with and without the trigger: (pictures,)."""
    without = [without_phrase(prompt, trigger, scene.triggers) for prompt in scene.prompts]
    with lora.in_use():
        whole, cut = (_end_states(scene.base, texts) for texts in (scene.prompts, without))
    changed = torch.tensor([a != b for a, b in zip(scene.prompts, without, strict=True)])
    distance = (1 - F.cosine_similarity(whole, cut, dim=1)).clamp_min(0).float()
    return distance * changed.to(distance)


def _end_states(base: Base, texts: Sequence[str]) -> Tensor:
    """The text encoder's output at the end token of every text: (texts, width)."""
    ids = text_ids(base, texts)
    states = base.pipeline.text_encoder(ids)[0]
    ends = (ids == base.pipeline.tokenizer.eos_token_id).int().argmax(dim=1)
    return states[torch.arange(len(texts), device=states.device), ends]


def without_phrase(prompt: str, phrase: str, known: Sequence[str] = ()) -> str:
    """The prompt without a phrase, its article, and one word that joins it to the rest.

    Where the phrase is part of a longer one of the ``known`` phrases, it stays.
    """
    for place in reversed(phrase_spans(prompt, [phrase, *known])[0]):
        prompt = f"{prompt[: place.start]}{MARK}{prompt[place.stop :]}"
    articles, joints = ("|".join(re.escape(word) for word in words) for words in (ARTICLES, JOINTS))
    name = rf"(?:\b(?:{articles})\s+)?{MARK}"
    before = rf"\s*(?:(?<!\w)(?:{joints})(?!\w)|,)\s*{name}"
    after = rf"{name}\s*(?:(?<!\w)(?:{joints})(?!\w)|,)"
    for pattern in (before, after, name):
        prompt = re.sub(pattern, " ", prompt, flags=re.IGNORECASE)
    return " ".join(prompt.split())
