"""How much a refinement draws and trains, and what that costs.

Costs are in predictions of the UNet for one latent; a picture with guidance takes two in each step.
"""

from __future__ import annotations

from dataclasses import dataclass

JUDGE_PICTURES, JUDGE_STEPS = 12, 12  # of each LoRA and of the base, for a threshold
JUDGE_NOISES = 9  # to look at a picture with one model
COMPOSITES, FEWEST, MOST_OF_AN_ORDER = 192, 4, 64  # painted over all orders, and of each
PAINTED_STEPS, PAINTED_NOISES = 15, 4  # of a composite, and to find its first thing
LESSON_PICTURES, LESSON_STEPS = 48, 12  # of each LoRA alone, and of other things
PROOFS, PROOF_STEPS = 8, 15  # pictures before and after
ROWS = {"composites": 14, "alone": 12, "plain": 6}  # of a step of the training
BACKWARD = 2  # predictions that take as long as the way back through one


@dataclass(frozen=True)
class RefineCost:
    """The cost of every part."""

    judge: float
    lessons: float
    training: float
    proofs: float

    @property
    def total(self) -> float:
        """Of all of it."""
        return self.judge + self.lessons + self.training + self.proofs


def order_count(loras: int, styles: int) -> int:
    """Ordered pairs of LoRAs whose first is no style: who paints first, and who then."""
    return (loras - styles) * (loras - 1)


def tried_of_each(orders: int) -> int:
    """Composites that are tried of each of so many orders."""
    return max(FEWEST, min(MOST_OF_AN_ORDER, COMPOSITES // max(1, orders)))


def refine_cost(loras: int, styles: int, steps: int) -> RefineCost:
    """What a refinement of so many LoRAs costs; a style's picture as much as a thing's."""
    looked_at = JUDGE_NOISES * 3  # two LoRAs and the base
    threshold = 2 * JUDGE_PICTURES * (2 * JUDGE_STEPS + 2 * JUDGE_NOISES)
    composite = 2 * 2 * PAINTED_STEPS + 2 * PAINTED_NOISES + looked_at
    orders = order_count(loras, styles)
    targets = 3 * ROWS["composites"] + ROWS["alone"] + ROWS["plain"]
    return RefineCost(
        judge=loras * threshold,
        lessons=orders * tried_of_each(orders) * composite
        + (loras + 1) * LESSON_PICTURES * 2 * LESSON_STEPS,
        training=steps * (targets + (1 + BACKWARD) * sum(ROWS.values())),
        proofs=2 * PROOFS * (2 * PROOF_STEPS + looked_at),
    )
