"""CLIP scores: how similar two pictures are, and how well a picture fits a text.

These are the paper's two scores for single concepts. The embedded base has a small CLIP that ships
with the project; for SD 1.5 it is OpenAI's ViT-B/32, through the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from merging.base_models import MINI
from merging.diffusion.quiet_loading import quiet_loading
from merging.errors import MergeError

TEXT_SCALE = 2.5


@dataclass(frozen=True)
class Clip:
    """A CLIPModel with its tokenizer; embeddings have unit length."""

    name: str
    model: CLIPModel
    tokenizer: CLIPTokenizer
    processor: CLIPImageProcessorPil

    @torch.inference_mode()
    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """(n, width) for pictures of any size."""
        values = self.processor(images=list(images), return_tensors="pt").pixel_values
        return embed_preprocessed(self.model, values)

    @torch.inference_mode()
    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """(n, width)."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        return embed_tokens(self.model, tokens.input_ids)

    def image_similarity(
        self, images: Sequence[Image.Image], others: Sequence[Image.Image]
    ) -> float:
        """Mean cosine over all pairs of a picture and one of `others`."""
        return (self.image_embeddings(images) @ self.image_embeddings(others).T).mean().item()

    def text_similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> float:
        """Mean cosine of the pictures with their texts, pair by pair."""
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} pictures, but {len(texts)} texts")
        products = self.image_embeddings(images) * self.text_embeddings(texts)
        return products.sum(dim=1).mean().item()


def text_align(picture: Tensor, text: Tensor) -> float:
    """2.5 · max(cosine, 0) of unit embeddings (width,), as CustomConcept101's evaluator has it."""
    return TEXT_SCALE * max((picture @ text).item(), 0.0)


def image_align(picture: Tensor, references: Tensor) -> float:
    """Mean cosine of a picture (width,) and reference pictures (n, width), unit embeddings."""
    return (references @ picture).mean().item()


def embed_pixels(model: CLIPModel, values: Tensor) -> Tensor:
    """Unit embeddings (n, width) of pixels (n, 3, 64, 64) in [0, 1]."""
    return embed_preprocessed(model, (values - 0.5) / 0.5)


def embed_preprocessed(model: CLIPModel, values: Tensor) -> Tensor:
    """Unit embeddings (n, width) of pictures after the model's preprocessing."""
    pooled = model.vision_model(values).pooler_output
    return functional.normalize(model.visual_projection(pooled).float(), dim=-1)


def embed_tokens(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Unit embeddings (n, width) of token ids (n, length)."""
    pooled = model.text_model(tokens).pooler_output
    return functional.normalize(model.text_projection(pooled).float(), dim=-1)


def load_clip(name: str = MINI.clip, download: bool = True) -> Clip:
    """A CLIP from a folder or the Hub, in float32; MergeError if it cannot be loaded.

    Without ``download`` only one that is on this machine.
    """
    local = {"local_files_only": not download}
    try:
        with quiet_loading():
            model = CLIPModel.from_pretrained(name, dtype=torch.float32, **local).eval()
        tokenizer = CLIPTokenizer.from_pretrained(name, **local)
        processor = CLIPImageProcessorPil.from_pretrained(name, **local)
    except OSError as error:
        raise MergeError(
            f"The CLIP model {name} cannot be loaded; check the connection or its folder."
        ) from error
    return Clip(Path(name).name, model, tokenizer, processor)
