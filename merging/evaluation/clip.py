"""A small CLIP of the embedded world: how alike two pictures are, how well a picture fits a text.

The paper's two scores for single concepts, on the base that ships with the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from merging.evaluation.detector import pixels

CLIP = Path(__file__).parents[2] / "assets" / "mini-clip"


@dataclass(frozen=True)
class Clip:
    """A CLIPModel with its tokenizer; embeddings have unit length."""

    model: CLIPModel
    tokenizer: CLIPTokenizer

    @torch.inference_mode()
    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """(n, width) for pictures of any size."""
        return embedded_pixels(self.model, pixels(images))

    @torch.inference_mode()
    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """(n, width)."""
        words = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        return embedded_words(self.model, words.input_ids)

    def image_similarity(
        self, images: Sequence[Image.Image], others: Sequence[Image.Image]
    ) -> float:
        """Mean cosine over all pairs of a picture and one of `others`."""
        return (self.image_embeddings(images) @ self.image_embeddings(others).T).mean().item()

    def text_similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> float:
        """Mean cosine of each picture with its own text."""
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} pictures, but {len(texts)} texts")
        products = self.image_embeddings(images) * self.text_embeddings(texts)
        return products.sum(dim=1).mean().item()


def embedded_pixels(model: CLIPModel, values: Tensor) -> Tensor:
    """Unit embeddings (n, width) of pixels (n, 3, 64, 64) in [0, 1]."""
    pooled = model.vision_model((values - 0.5) / 0.5).pooler_output
    return functional.normalize(model.visual_projection(pooled).float(), dim=-1)


def embedded_words(model: CLIPModel, words: Tensor) -> Tensor:
    """Unit embeddings (n, width) of token numbers (n, length)."""
    pooled = model.text_model(words).pooler_output
    return functional.normalize(model.text_projection(pooled).float(), dim=-1)


def load_clip(folder: Path = CLIP) -> Clip:
    """The trained CLIP, float32."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return Clip(model, CLIPTokenizer.from_pretrained(folder))
