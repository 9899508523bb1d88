"""Which LoRAs' concepts are in a picture, and where: a judge that needs nothing but the LoRAs.

a_i(p)   advantage of LoRA i at place p (`merging.diffusion.refine.advantage`)
τ_i      its threshold: between the median of max_p a_i over the base's pictures and that over
         pictures of LoRA i alone, for the same prompts and seeds
m_i(p)   a_i(p) / τ_i
Place p is LoRA i's where a_i(p) is the largest of all LoRAs that are no styles: there it denoises
the picture best. Concept i is in the picture if m_i is above 1 at one of its own places; a style,
which has no place, if the mean of m_i over the picture is. LoRAs answer to each other's pictures as
well, those of one kind of thing or of like colours, but the right one more. Were places given by
the largest m, one with a small τ would be found in whatever is like its thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from merging.base_models import base_model
from merging.calibration.prompts import concept_prompts
from merging.calibration.refine_size import JUDGE_PICTURES, JUDGE_STEPS
from merging.diffusion.base import Base, latent_size
from merging.diffusion.refine.advantage import DRAWS, advantage, around, denoising_error
from merging.diffusion.refine.concept import NO_CHANGE, Concept, ModelChange, check_phrases
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.diffusion.textual_inversion import using_embeddings
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.runtime.memory import explain_out_of_memory
from merging.runtime.progress import Progress, Stop, never, part, silent
from merging.runtime.seeds import seed_for

MIDWAY = 0.5  # from the base's median to the LoRA's own
# In pictures of several concepts each has less room, and a merge is not quite its LoRA: on three
# tuning pairs of the bundled LoRAs, a threshold halfway differed from the detector in 14 of 72
# findings and one at a quarter in none. It was chosen on these pictures; the trial was not kept.
QUARTER = 0.25
ONE_DRAW = 1  # noise per time, which finds what three find, three times as fast
REMEDY = "close other programs that use it, or take another device"


@dataclass(frozen=True)
class Finding:
    """What a judge says of one concept in one picture."""

    phrase: str
    score: float  # max of m_i over its own places, or the mean for a style: above 1 is there
    place: tuple[float, float] | None  # of the largest, x and y in [0, 1]; None for a style

    @property
    def present(self) -> bool:
        """Whether the concept is in the picture."""
        return self.score > 1

    def __str__(self) -> str:
        """``sks cat 1.9 at 25 % / 60 %``, or ``no qfj dog (0.1)``."""
        if not self.present:
            return f"no {self.phrase} ({self.score:.1f})"
        at = "" if self.place is None else " at {:.0%} / {:.0%}".format(*self.place)
        return f"{self.phrase} {self.score:.1f}{at}"


@dataclass(frozen=True)
class Examples:
    """Pictures of one size that tell a concept: of its LoRA alone and of the base, from one noise.

    Every prompt names the concept; there is at least one.
    """

    prompts: Sequence[str]
    alone: Sequence[Image.Image]
    plain: Sequence[Image.Image]


@dataclass(frozen=True)
class Judge:
    """Concepts and their thresholds on one base."""

    base: Base
    concepts: tuple[Concept, ...]
    thresholds: tuple[float, ...]  # τ_i
    embeddings: tuple[Embedding, ...] = ()
    seed: int = 0
    draws: int = DRAWS  # noises n for every t

    def findings(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        progress: Progress = silent,
        stop: Stop = never,
    ) -> list[tuple[Finding, ...]]:
        """For each picture, what is found of every concept, in their order.

        Costs 3 · draws passes of the UNet per picture and model. Raises MergeError for pictures of
        a size that the base cannot draw, Cancelled once ``stop`` turns true.
        """
        with _working(self.base, self.embeddings, stop):
            results = []
            for done, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
                share = part(progress, done / len(images), (done + 1) / len(images))
                maps = self.maps(encode(self.base, [image]), [prompt], share)
                results.append(self.read(maps[0]))
            return results

    def maps(self, latents: Tensor, prompts: Sequence[str], progress: Progress = silent) -> Tensor:
        """m of finished latents: (pictures, concepts, height, width). The embeddings are in use."""
        maps = []
        phrases = [concept.phrase for concept in self.concepts]
        plain: dict[tuple[str, ...], Tensor] = {}  # the base's errors, once for equal prompts
        for i, (concept, middle) in enumerate(zip(self.concepts, self.thresholds, strict=True)):
            progress(i / len(self.concepts), f"looking for {concept.phrase}")
            sentences = tuple(concept.prompt(prompt, phrases) for prompt in prompts)
            if sentences not in plain:
                plain[sentences] = self._error(latents, sentences, NO_CHANGE)
            error = self._error(latents, sentences, concept.change)
            maps.append(around(plain[sentences] - error) / middle)
        return torch.stack(maps, dim=1)

    def _error(self, latents: Tensor, prompts: Sequence[str], change: ModelChange) -> Tensor:
        return denoising_error(
            self.base, latents, prompts, change, draws=self.draws, seed=self.seed
        )

    def of(self, numbers: Sequence[int]) -> Judge:
        """The judge of some of the concepts."""
        concepts = tuple(self.concepts[i] for i in numbers)
        thresholds = tuple(self.thresholds[i] for i in numbers)
        return replace(self, concepts=concepts, thresholds=thresholds)

    def read(self, maps: Tensor) -> tuple[Finding, ...]:
        """The findings in one picture's m (concepts, height, width)."""
        advantages = maps * torch.tensor(self.thresholds)[:, None, None]
        owners = owner_of(advantages, [concept.style for concept in self.concepts])
        return tuple(
            _finding(concept, values, owners == i)
            for i, (concept, values) in enumerate(zip(self.concepts, maps, strict=True))
        )


def owner_of(maps: Tensor, styles: Sequence[bool]) -> Tensor:
    """Index of the LoRA with the largest a at every place; maps (…, LoRAs, height, width)."""
    return maps.masked_fill(torch.tensor(styles)[:, None, None], -torch.inf).argmax(dim=-3)


def _finding(concept: Concept, values: Tensor, territory: Tensor) -> Finding:
    """What m (height, width) says of a concept that stands out in ``territory``."""
    if concept.style:
        return Finding(concept.phrase, values.mean().item(), None)
    score, best = values.masked_fill(~territory, 0.0).flatten().max(dim=0)
    height, width = values.shape
    row, column = divmod(int(best), width)
    return Finding(concept.phrase, score.item(), ((column + 0.5) / width, (row + 0.5) / height))


def build_judge(
    base: Base,
    concepts: Sequence[Concept],
    *,
    embeddings: Sequence[Embedding] = (),
    seed: int = 0,
    progress: Progress = silent,
    stop: Stop = never,
) -> Judge:
    """Draw what the thresholds need: 12 pictures of every LoRA and as many of the base.

    ``embeddings`` are those that the prompts may use, those inside the LoRAs' files among them.
    Raises MergeError for a LoRA without a trigger phrase, or whose own pictures cannot be told from
    the base's; Cancelled once ``stop`` turns true.
    """
    check_phrases(concepts)
    with _working(base, embeddings, stop):
        thresholds = []
        for i, concept in enumerate(concepts):
            share = part(progress, i / len(concepts), (i + 1) / len(concepts))
            thresholds.append(threshold(base, concept, seed, share))
    return Judge(base, tuple(concepts), tuple(thresholds), tuple(embeddings), seed)


def judge_from_examples(
    base: Base,
    concepts: Sequence[Concept],
    examples: Sequence[Examples],
    *,
    embeddings: Sequence[Embedding] = (),
    seed: int = 0,
    progress: Progress = silent,
    stop: Stop = never,
) -> Judge:
    """A judge whose thresholds are from pictures that there are already; draws nothing.

    They lie a quarter of the way from the base's median to the LoRA's own. Costs 12 passes of the
    UNet for each example. Raises as `build_judge`.
    """
    check_phrases(concepts)
    with _working(base, embeddings, stop):
        thresholds = []
        for i, (concept, given) in enumerate(zip(concepts, examples, strict=True)):
            progress(i / len(concepts), f"looking at pictures of {concept.phrase} alone")
            latents = [encode(base, images) for images in (given.alone, given.plain)]
            medians = _medians(base, concept, given.prompts, latents, seed, ONE_DRAW)
            thresholds.append(_between(concept, *medians, QUARTER))
    return Judge(base, tuple(concepts), tuple(thresholds), tuple(embeddings), seed, ONE_DRAW)


def threshold(base: Base, concept: Concept, seed: int, progress: Progress = silent) -> float:
    """τ of one LoRA; MergeError if its own pictures cannot be told from the base's."""
    phrase = concept.phrase
    prompts = concept_prompts(phrase, JUDGE_PICTURES, seed_for(seed, "threshold", phrase))
    seeds = [seed_for(seed, "threshold", phrase, str(number)) for number in range(JUDGE_PICTURES)]
    noise = seeded_noise(base, seeds, latent_size(base))
    guidance = base_model(base.name).guidance
    latents = []
    for done, model in enumerate((concept.change, NO_CHANGE)):
        progress(done / 2, f"pictures of {phrase}")
        latents.append(
            draw_latents(base, prompts, noise, model, steps=JUDGE_STEPS, guidance=guidance)
        )
    return _between(concept, *_medians(base, concept, prompts, latents, seed), MIDWAY)


def _medians(
    base: Base,
    concept: Concept,
    prompts: Sequence[str],
    latents: Sequence[Tensor],
    seed: int,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """Of the best a in latents of the LoRA alone, and in those of the base."""
    lora, plain = (
        advantage(base, finished, prompts, concept.change, draws=draws, seed=seed)
        for finished in latents
    )
    best = [
        maps.mean(dim=(1, 2)) if concept.style else maps.amax(dim=(1, 2)) for maps in (lora, plain)
    ]
    return best[0].median().item(), best[1].median().item()


def _between(concept: Concept, lora: float, plain: float, share: float) -> float:
    """So far from ``plain`` to ``lora``; MergeError where there is nothing between them."""
    between = share * lora + (1 - share) * plain
    if not (lora > plain and between > 0):
        raise MergeError(
            f"{concept.name}: its pictures of “{concept.phrase}” cannot be told from the base's; "
            "check its trigger phrase and strength."
        )
    return between


@torch.no_grad()
def encode(base: Base, images: Sequence[Image.Image]) -> Tensor:
    """Latents (images, channels, height, width) of pictures of one size, by the base's VAE."""
    vae = base.pipeline.vae
    for image in images:
        latent_size(base, f"{image.width}x{image.height}")  # MergeError for other sizes
    pixels = torch.from_numpy(np.stack([np.array(image.convert("RGB")) for image in images]))
    values = (pixels.permute(0, 3, 1, 2) / 127.5 - 1).to(base.device, vae.dtype)
    encoded = vae.encode(values)  # an AutoencoderTiny gives latents, not a distribution
    latents = encoded.latents if "latents" in encoded else encoded.latent_dist.mode()
    return (latents * vae.config.scaling_factor).to(base.dtype)


@contextmanager
def _working(base: Base, embeddings: Sequence[Embedding], stop: Stop) -> Iterator[None]:
    """The embeddings in use, Stop at every layer, and a clear error when memory runs out."""
    memory = explain_out_of_memory(f"Looking at pictures on {base.device}", REMEDY)
    with memory, using_embeddings(base, embeddings), base.stopping_at_layers(stop):
        yield
