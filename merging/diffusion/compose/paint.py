"""Each LoRA paints its own thing, one around the other; their places are found, not given.

x^k     what LoRA k draws alone for the whole prompt: its own thing, and the others as the base
        knows them
K_k     its own part of it (`merging.diffusion.refine.paint`)
The LoRA with the smallest K_k paints first; the next one draws all the rest around what is kept,
and so on. In the kept part the prediction is the noise that leads to the picture there is,
    ε = (x_t − √ᾱ_t x₀) / √(1 − ᾱ_t),
elsewhere that of the LoRA that paints. Then every LoRA's advantage is compared with that in x^k: if
one of the things is not there, they paint once more in the opposite order, and the better of both
pictures is taken. Styles draw over the finished picture, in the order in which they are given.

A LoRA whose trigger the prompt does not name does not paint; one without a trigger always does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.diffusion.compose.composer import Composer, Moment, Variant
from merging.diffusion.compose.scene import Scene, Weighted
from merging.diffusion.refine.advantage import advantage
from merging.diffusion.refine.concept import Concept, ModelChange
from merging.diffusion.refine.judge import QUARTER, Judge
from merging.diffusion.refine.paint import DRAWS, TIMES, kept_part, same_kind
from merging.diffusion.refine.sampling import STYLE_STRENGTH
from merging.text.phrases import phrases_in
from merging.text.syntax import plain_text

ORDERS = 2  # tried of each picture: the smallest thing first, and the largest first


@dataclass(frozen=True)
class Painter:
    """A LoRA that takes part in the picture."""

    model: Variant
    concept: Concept
    triggers: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """One way from noise to a picture, around what is kept of an earlier one."""

    model: Variant
    earlier: Tensor | None = None  # x₀ (1, channels, height, width)
    mask: Tensor | None = None  # (1, 1, height, width): 1 where it is kept; None: nowhere
    first: int = 0  # step before which all of it is kept


@dataclass(frozen=True)
class Alone:
    """What one LoRA drew by itself."""

    latents: Tensor
    mask: Tensor  # its own part
    best: float  # its largest advantage


Painting = Generator[Round, Tensor, Tensor]  # rounds out, their pictures in; at last the picture


class Paint(Composer):
    """Several rounds of one pass. A scene has one picture."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The LoRAs' text states are made once; each is in the model in its rounds alone."""
        self.painters = [
            _painter(self.scene, pair) for pair in self.scene.adapters if _named(self.scene, pair)
        ]
        self.things = [one for one in self.painters if not one.concept.style]
        self.styles = [one for one in self.painters if one.concept.style]
        self.painting = self._paint()
        self.round = next(self.painting)
        yield

    @property
    def rounds(self) -> int:
        """At most."""
        count = max(1, len(self.things))
        return count + ORDERS * (count - 1 + len(self.styles))

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The painter's prediction, and in the kept part the noise that leads to it."""
        now = self.round
        if now.earlier is None:
            return now.model.noise(latents, moment.time)
        known = leading_noise(self.scene, latents, now.earlier, moment.time)
        if moment.step < now.first:
            return known
        predicted = now.model.noise(latents, moment.time)
        return predicted if now.mask is None else _joined(now.mask, known, predicted)

    def finish(self, latents: Tensor) -> Tensor | None:
        """The picture, or None if there is one more round to paint."""
        if self.round.earlier is not None and self.round.mask is not None:
            latents = _joined(self.round.mask, self.round.earlier, latents)
        try:
            self.round = self.painting.send(latents)
        except StopIteration as done:
            self.picture: Tensor = done.value
            return self.picture
        return None

    def maps(self, phrases: Sequence[str]) -> Tensor | None:
        """Where each painter's advantage is; 0 for other phrases."""
        maps = torch.zeros(1, len(phrases), *self.scene.latent)
        for painter in self.painters:
            for phrase in set(painter.triggers) & set(phrases):
                found = self._advantage(painter, self.picture)
                maps[:, phrases.index(phrase)] = found.clamp_min(0)
        return maps / maps.mean(dim=(2, 3), keepdim=True).clamp_min(1e-12)

    def _paint(self) -> Painting:
        """All rounds of the picture."""
        if not self.painters:
            return (yield Round(Variant(self.scene, [])))
        if not self.things:
            latents = yield Round(self.styles[0].model)
            return (yield from self._in_styles(latents, self.styles[1:]))
        alone = []
        for painter in self.things:
            latents = yield Round(painter.model)
            alone.append(self._alone(painter, latents))
        order = sorted(range(len(alone)), key=lambda i: float(alone[i].mask.sum()))
        pictures = []
        for places in [order, order[::-1]][: min(ORDERS, len(order))]:
            latents = yield from self._in_order(places, alone)
            score = self._score(latents, alone) if len(order) > 1 else torch.inf
            pictures.append((score, (yield from self._in_styles(latents, self.styles))))
            if score > 1:
                break
        return max(pictures, key=lambda pair: pair[0])[1]

    def _in_order(self, order: Sequence[int], alone: Sequence[Alone]) -> Painting:
        """The things, each around those before it."""
        latents, mask = alone[order[0]].latents, alone[order[0]].mask
        for place, i in enumerate(order[1:], start=1):
            latents = yield Round(self.things[i].model, latents, mask)
            if place + 1 < len(order):
                mask = torch.maximum(mask, self._own_part(self.things[i], latents, mask))
        return latents

    def _in_styles(self, latents: Tensor, styles: Sequence[Painter]) -> Painting:
        """Image to image, as the composites' styles are."""
        first = round(self.scene.steps * (1 - STYLE_STRENGTH))
        for style in styles:
            latents = yield Round(style.model, latents, first=first)
        return latents

    def _alone(self, painter: Painter, latents: Tensor) -> Alone:
        maps = self._advantage(painter, latents)
        taken = torch.zeros(1, 1, *self.scene.latent)
        return Alone(latents, kept_part(maps, taken, self._alike(painter)), maps.max().item())

    def _own_part(self, painter: Painter, latents: Tensor, taken: Tensor) -> Tensor:
        return kept_part(self._advantage(painter, latents), taken, self._alike(painter))

    def _alike(self, painter: Painter) -> bool:
        """Whether another thing answers to the same word."""
        others = (one.concept for one in self.things if one is not painter)
        return any(same_kind(painter.concept, other) for other in others)

    def _advantage(self, painter: Painter, latents: Tensor) -> Tensor:
        scene = self.scene
        change = painter.concept.change
        return advantage(scene.base, latents, scene.prompts, change, times=TIMES, draws=DRAWS)

    def _score(self, latents: Tensor, alone: Sequence[Alone]) -> float:
        """The judge's score of the thing that is there least: above 1 all of them are."""
        thresholds = tuple(QUARTER * max(one.best, 1e-6) for one in alone)
        maps = torch.cat([self._advantage(painter, latents) for painter in self.things])
        judge = Judge(self.scene.base, tuple(one.concept for one in self.things), thresholds)
        findings = judge.read(maps / torch.tensor(thresholds)[:, None, None])
        return min(finding.score for finding in findings)


def leading_noise(scene: Scene, latents: Tensor, clean: Tensor, time: Tensor) -> Tensor:
    """ε with which x_t, scaled as the model takes it, leads to x₀; of the same shape."""
    kept = float(scene.base.pipeline.scheduler.alphas_cumprod[int(time.round())])
    noise = (latents.float() - kept**0.5 * clean.float()) / (1 - kept) ** 0.5
    return noise.to(latents.dtype)


def _joined(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    mask = mask.to(outside)
    return mask * inside + (1 - mask) * outside


def _named(scene: Scene, pair: Weighted) -> bool:
    """Whether the picture has the LoRA: it has strength, and the prompt one of its triggers."""
    adapter, strength = pair
    known = [name for one, _ in scene.adapters for name in one.triggers]
    present = phrases_in(scene.prompts[0], known)
    return bool(strength) and (not adapter.triggers or any(x in present for x in adapter.triggers))


def _painter(scene: Scene, pair: Weighted) -> Painter:
    model = Variant(scene, [pair])
    phrase = plain_text(pair[0].trigger)
    change = ModelChange(model.deltas, model.shifts)
    return Painter(model, Concept(phrase, change, pair[0].name), pair[0].triggers)
