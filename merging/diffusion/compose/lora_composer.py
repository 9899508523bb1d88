"""LoRA-Composer (arXiv:2403.11627): each LoRA in a box, by attention, in one pass.

- Injection: in box k, cross-attention is that of LoRA k, with the text states of its own text
  encoder; around the boxes it is the base's. Where boxes overlap, the mean.
- Isolation: a position in one box does not attend to positions of other boxes.
- Layout: the noise of a box is copied from where the first step looks for its concept; in the first
  half of the steps the latents move down the gradient of a loss that asks for the concept's
  attention in its box (merging/diffusion/compose/box_layout.py).

All other layers have LoRA k in box k. LoRAs without a region act everywhere. The paper's third loss
is on self-attention that leaves a box; isolation already forbids the part that goes to other boxes,
and the rest is left out. Its step of 20 times the gradient is for raw attention of one layer; the
loss here is on maps from 0 to 1, so the moves have a fixed length instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from merging.diffusion.attention_bias import biased
from merging.diffusion.attention_maps import AttentionRecorder, phrase_masks
from merging.diffusion.compose.box_layout import cells, layout_loss, moved_noise
from merging.diffusion.compose.composer import Composer, Moment, Variant
from merging.diffusion.compose.regions import region_masks
from merging.diffusion.compose.scene import Scene, summed_deltas, summed_shifts
from merging.diffusion.gate import constant_gate, gated
from merging.text.syntax import plain_text

LONGEST, PATIENT = 25, 5  # steps in which the latents are moved: at most, and at least
RATE = 0.1  # root mean square of the first move; later ones are smaller
NEVER = -1e4  # a bias that leaves no attention, within the range of half precision


class LoraComposer(Composer):
    """One pass, and one with gradients in the first steps. A scene has one picture."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError for missing regions, and for those of triggers that no LoRA has."""
        super().__init__(scene)
        self.masks = region_masks(scene)
        small = [region for region in scene.regions if region.box != (0, 0, 1, 1)]
        self.boxes = [cells(region.box, scene.latent) for region in small]
        phrases = [plain_text(region.phrase) for region in small]
        self.marks = phrase_masks(scene.base, scene.prompts, phrases)
        self.best = float("inf")  # the loss so far
        self.moving = bool(small) and bool(self.marks.any())

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Every box has a variant of the model, and so has what is around them."""
        scene = self.scene
        by_box = [[p for p in scene.adapters if name in p[0].triggers] for name in self.masks]
        shared = [p for p in scene.adapters if not any(p in pairs for pairs in by_box)]
        self.variants = [Variant(scene, [*pairs, *shared]) for pairs in (*by_box, [])]
        around = 1 - torch.stack(list(self.masks.values())).sum(dim=0).clamp_max(1)
        areas = torch.stack([*self.masks.values(), around])
        self.areas = (areas / areas.sum(dim=0)).to(scene.base.device)  # (boxes + 1, height, width)
        with ExitStack() as stack:
            for part in self._other_layers([*by_box, shared]):
                stack.enter_context(part)
            stack.enter_context(biased(scene.base, "attn1", self._isolation))
            self._inject(stack)
            yield

    def _other_layers(self, groups: list) -> Iterator:
        """Gates that hold the LoRAs' other layers to their boxes; the last group is everywhere."""
        base, samples = self.scene.base, self.scene.streams
        gate = constant_gate(torch.ones(samples, len(groups)), 1, self.scene.latent)
        everywhere = torch.ones_like(self.areas[:1])
        gate.regions = torch.cat([self.areas[:-1], everywhere])[None].repeat(samples, 1, 1, 1)
        for summed in (summed_deltas, summed_shifts):
            changes = [
                {n: c for n, c in summed(base, pairs).items() if not _injected(n)}
                for pairs in groups
            ]
            yield gated(base, changes, gate)

    def _inject(self, stack: ExitStack) -> None:
        """Replace the forward of every cross-attention, until the stack is closed."""
        for name, block in self.scene.base.pipeline.unet.named_modules():
            if name.endswith(".attn2"):
                block.forward = self._injection(f"unet.{name}.", block)
                stack.callback(block.__dict__.pop, "forward")

    def _injection(self, prefix: str, block: nn.Module) -> Callable:
        plain = type(block).forward
        parts = [
            {n: c for n, c in one.deltas.items() if n.startswith(prefix)} for one in self.variants
        ]

        def forward(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
            total = torch.zeros_like(hidden_states)
            weights = self._shares(hidden_states.shape[1]).to(hidden_states)
            for variant, changes, weight in zip(self.variants, parts, weights, strict=True):
                if weight.any():
                    states = variant.states[-len(hidden_states) :]
                    with self.scene.base.changed(changes, first=True):
                        answer = plain(block, hidden_states, encoder_hidden_states=states)
                    total = total + weight[:, None] * answer
            return total

        return forward

    def _shares(self, positions: int) -> Tensor:
        """How much of each position every variant has: (variants, positions)."""
        height, width = self.scene.latent
        shrink = (height * width / positions) ** 0.5
        size = (round(height / shrink), round(width / shrink))
        return F.interpolate(self.areas[None], size=size, mode="area")[0].flatten(1)

    def _isolation(self, positions: int) -> Tensor:
        """The bias of self-attention: (1, positions, positions)."""
        inside = self._shares(positions)[:-1] >= 1 / (len(self.masks) + 1)
        return isolation(inside)[None]

    def begin(self, latents: Tensor) -> Tensor:
        """Bring noise that looks like each concept to its box."""
        if not self.moving:
            return latents
        maps = self._maps(latents, self.scene.base.pipeline.scheduler.timesteps[0])
        return moved_noise(latents, maps, self.boxes)

    def move(self, latents: Tensor, moment: Moment) -> Tensor:
        """The latents after one step down the gradient, until the loss rises."""
        last = min(LONGEST, self.scene.steps // 2)
        if not self.moving or moment.step >= last:
            return latents
        with torch.enable_grad():
            x = latents.detach().requires_grad_()
            loss = layout_loss(self._maps(x, moment.time), self.boxes)
            (gradient,) = torch.autograd.grad(loss, x)
        self.moving = moment.step < PATIENT or loss.item() <= self.best
        self.best = min(self.best, loss.item())
        rate = RATE * (1 - 0.5 * moment.step / last) ** 0.5
        length = gradient.square().mean().sqrt().clamp_min(1e-12)
        return latents - rate * gradient / length if self.moving else latents

    def _maps(self, latents: Tensor, time: Tensor) -> Tensor:
        """The attention to the concepts of the boxes: (boxes, height, width)."""
        base = self.scene.base
        watch = AttentionRecorder(base, self.marks, self.scene.latent, graph=True)
        with watch.recording():
            scaled = base.pipeline.scheduler.scale_model_input(latents, time)
            self.scene.predict(scaled, time, self.variants[-1].states)
        return watch.evidence[0]

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """One prediction; cross-attention takes its text states from the variants."""
        states = self.variants[-1].states
        return self.scene.guide(self.scene.predict(latents, moment.time, states))


def _injected(name: str) -> bool:
    """Whether a layer is the injection's affair, or that of the variants' text states."""
    return ".attn2." in name or name.startswith("text_encoder.")


def isolation(inside: Tensor) -> Tensor:
    """0 or a large negative bias, (positions, positions), for boxes (boxes, positions) of bool.

    A position in boxes sees what is in one of these, or in none at all.
    """
    members = inside.float()
    in_others = (members.sum(dim=0, keepdim=True) - members) > 0
    visible = (inside | ~in_others).float()  # (boxes, positions): from within each box
    seen = (members.T @ visible > 0) | ~inside.any(dim=0)[:, None]
    return torch.where(seen, 0.0, NEVER)
