"""What CLIP makes of LoRAs and prompts: does a LoRA's text or preview picture show a thing?

A zero-shot decision, as CLIP is trained for (Radford et al., arXiv:2103.00020, section 3.1): the
thing against its likeliest rival among forty others, by cosines at the model's own temperature τ.

    evidence(thing, vector) = sigmoid(τ · (cos(thing, vector) − max over rivals cos(rival, vector)))

The words of a LoRA's own text are no rivals of a thing beyond the forty: “kitten” need not fit a
cat's text better than “cat” does.

The small CLIP knows the forty objects alone, and only as the embedded base draws them: it takes the
pictures of LoRAs, which are drawn otherwise, for anything (`python -m merging evaluate retrieval`
measures it), so it reads words alone. OpenAI's looks at previews too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from merging.base_models import MINI, SD15
from merging.errors import MergeError
from merging.scoring.clip import Clip, load_clip

BATCH = 32  # texts or pictures at a time


@dataclass(frozen=True)
class Look:
    """A LoRA as CLIP sees it: unit vectors (n, width) of its text and its picture."""

    vectors: Tensor
    words: frozenset[str]  # of its text, which are no rivals of themselves

    @property
    def data(self) -> bytes:
        """The vectors, to keep."""
        return self.vectors.numpy().astype("<f4").tobytes()


@dataclass(frozen=True)
class ClipReader:
    """A CLIP that reads prompts and LoRAs."""

    clip: Clip
    rivals: tuple[str, ...]
    rival_vectors: Tensor  # (rivals, width)
    small: bool  # it knows these words and no others
    pictures: bool  # whether it looks at previews
    key: str  # its name and weights, beside vectors that are kept

    def known(self, text: str) -> str:
        """The words of a text that this CLIP knows."""
        if not self.small:
            return text
        return " ".join(word for word in text.split() if word in self.rivals)

    def look(self, texts: Sequence[str], picture: Image.Image | None) -> Look:
        """A LoRA by what is said of it (`texts_of`) and its preview picture, if it has one."""
        known = list(dict.fromkeys(filter(None, map(self.known, texts))))
        rows = [_text_vectors(self.clip, [", ".join(known)])] if known else []
        rows += [self.clip.image_embeddings([picture])] if picture and self.pictures else []
        return Look(torch.cat([self.rival_vectors[:0], *rows]), _words(texts))

    def kept_look(self, texts: Sequence[str], data: bytes) -> Look:
        """The look of the same LoRA from the ``data`` of an earlier one."""
        vectors = np.frombuffer(data, "<f4").reshape(-1, self.rival_vectors.shape[1])
        return Look(torch.from_numpy(vectors.astype(np.float32)), _words(texts))

    def evidence(self, things: Sequence[str], looks: Sequence[Look]) -> list[float]:
        """For each LoRA, 0 to 1: how surely its text or its picture is of one of the things."""
        known = list(dict.fromkeys(filter(None, map(self.known, things))))
        if not known:
            return [0.0] * len(looks)
        vectors = _text_vectors(self.clip, known)
        return [self._evidence(known, vectors, look) for look in looks]

    def _evidence(self, things: Sequence[str], vectors: Tensor, look: Look) -> float:
        if not len(look.vectors):
            return 0.0
        temperature = self.clip.model.logit_scale.exp().item()
        cosines = look.vectors @ self.rival_vectors.T  # (n, rivals)
        best = 0.0
        for thing, vector in zip(things, vectors, strict=True):
            named = {thing} if thing in self.rivals else look.words.union(thing.split())
            rivals = [name not in named for name in self.rivals]
            margins = look.vectors @ vector - cosines[:, torch.tensor(rivals)].amax(dim=1)
            best = max(best, torch.sigmoid(temperature * margins).max().item())
        return best


def load_reader() -> ClipReader:
    """OpenAI's CLIP if it was downloaded before, else the small one; downloads nothing."""
    try:
        return reader_of(load_clip(SD15.clip, download=False), small=False)
    except MergeError:
        return reader_of(load_clip(MINI.clip), small=True)


def reader_of(clip: Clip, small: bool) -> ClipReader:
    """A reader by this CLIP; ``small``: it was trained on the forty objects alone."""
    rivals = _forty_objects()
    digest = hashlib.sha256()
    for layer in (clip.model.text_projection, clip.model.visual_projection):
        digest.update(layer.weight.detach().numpy().tobytes())
    key = f"{clip.name} {digest.hexdigest()[:16]}"
    return ClipReader(clip, rivals, _text_vectors(clip, rivals), small, not small, key)


def _forty_objects() -> tuple[str, ...]:
    """What the embedded models know."""
    about = json.loads((Path(MINI.detector) / "classes.json").read_text(encoding="utf-8"))
    return tuple(name for name in about["classes"] if " " not in name)


def _words(texts: Sequence[str]) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


def _text_vectors(clip: Clip, things: Sequence[str]) -> Tensor:
    """(n, width) of “a photo of a THING”."""
    prompts = [f"a photo of {'an' if thing[0] in 'aeiou' else 'a'} {thing}" for thing in things]
    batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
    return torch.cat([clip.text_embeddings(batch) for batch in batches])
