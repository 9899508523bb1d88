"""The table of all ways to draw with several LoRAs at once, without merging them.

A composition's module is imported when it is first used, since importing torch takes seconds: the
page and the command line need the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal, TypedDict

from merging.errors import MergeError

if TYPE_CHECKING:
    from merging.diffusion.compose.composer import Composer

Need = Literal["triggers", "regions"]  # a trigger phrase of every LoRA; boxes drawn by the user


class CompositionData(TypedDict):
    """A composition as plain data: the command `methods` and the endpoint /methods have it."""

    title: str
    summary: str
    passes: str
    gradients: bool
    needs: list[Need]
    source: str


@dataclass(frozen=True)
class Composition:
    """One way to compose while drawing, with what a user must know to choose it."""

    title: str
    composer: str  # module:class in this package
    source: str
    passes: str  # forward passes of the model per step, for N LoRAs
    summary: str  # one sentence for the page
    needs: tuple[Need, ...] = ()
    gradients: bool = False  # whether it runs the model backwards too, which takes memory
    ordered: bool = False  # whether the order of the LoRAs changes the picture
    alters_base: bool = False  # whether even LoRAs of strength 0 change the picture
    one_by_one: bool = False  # whether every picture is a batch of its own, for choices or memory

    @property
    def composer_class(self) -> type[Composer]:
        """The class that draws this way."""
        return resolve_name(f"{__name__}.{self.composer}")

    @property
    def cost(self) -> str:
        """What a step costs, in words."""
        noun = "pass" if self.passes == "1" else "passes"
        return f"{self.passes} {noun} a step" + (", with gradients" if self.gradients else "")

    def as_dict(self) -> CompositionData:
        """Plain data for JSON."""
        return {
            "title": self.title,
            "summary": self.summary,
            "passes": self.passes,
            "gradients": self.gradients,
            "needs": list(self.needs),
            "source": self.source,
        }


COMPOSITIONS: Mapping[str, Composition] = {
    "sum": Composition(
        "Loaded together",
        "sum:Sum",
        "arXiv:2106.09685",
        "1",
        "All LoRAs act everywhere at once, as when a program loads them together.",
    ),
    "gated": Composition(
        "Gated, no merge",
        "gated:Gated",
        "this project",
        "1",
        "Each LoRA acts on its own words, and where the picture looks at them.",
        needs=("triggers",),
    ),
    "switch": Composition(
        "LoRA Switch",
        "switch:Switch",
        "arXiv:2402.16843",
        "1",
        "One LoRA at a time, by turns of a few steps.",
        ordered=True,
    ),
    "composite": Composition(
        "LoRA Composite",
        "composite:Composite",
        "arXiv:2402.16843",
        "N",
        "The mean of what each LoRA alone predicts.",
    ),
    "w-switch": Composition(
        "W-Switch",
        "w_switch:WeightedSwitch",
        "arXiv:2606.03792",
        "1",
        "Turns as long as the trigger's words change the prompt.",
        needs=("triggers",),
    ),
    "w-composite": Composition(
        "W-Composite",
        "w_composite:WeightedComposite",
        "arXiv:2606.03792",
        "N",
        "Composite, each LoRA weighed by how much its trigger's words change the prompt.",
        needs=("triggers",),
    ),
    "loratorio": Composition(
        "LoRAtorio",
        "loratorio:Loratorio",
        "arXiv:2508.11624",
        "N + 1",
        "Patch by patch, LoRAs count by how far their prediction is from the base's.",
    ),
    "cmlora": Composition(
        "CMLoRA",
        "cmlora:CmLora",
        "arXiv:2502.04923",
        "N",
        "Composite led by one LoRA after the other; the others reuse features, which saves time.",
        ordered=True,
        alters_base=True,  # features of the step before are not quite those of this one
        one_by_one=True,
    ),
    "tara": Composition(
        "TARA's token mask",
        "tara:TokenMask",
        "arXiv:2508.08812",
        "1",
        "The sum, but text keys and values of each LoRA on its own trigger's tokens alone.",
        needs=("triggers",),
    ),
    "kl-choice": Composition(
        "Choice per layer by KL",
        "kl_choice:KlChoice",
        "arXiv:2602.15539",
        "1",
        "Every layer takes the LoRA that changes its output most; for an object and a style.",
    ),
    "clora": Composition(
        "CLoRA",
        "clora:Clora",
        "arXiv:2403.19776",
        "3 (N + 1)",
        "Moves the concepts apart in the picture, then draws each LoRA in its own mask.",
        needs=("triggers",),
        gradients=True,
        alters_base=True,
        one_by_one=True,
    ),
    "freefuse": Composition(
        "FreeFuse",
        "freefuse:FreeFuse",
        "arXiv:2510.23515",
        "1⅓",
        "Finds a mask for each LoRA in a short first try, then keeps each in its mask.",
        needs=("triggers",),
        alters_base=True,
    ),
    "paint": Composition(
        "Painted one by one",
        "paint:Paint",
        "this project",
        "up to 3 N",
        "One LoRA paints and keeps its own thing, the next paints around it; no boxes needed.",
        one_by_one=True,
    ),
    "regions": Composition(
        "Regions",
        "regions:Regions",
        "arXiv:2302.08113",
        "N + 1",
        "Each trigger's LoRA and words in the boxes that you give it.",
        needs=("triggers", "regions"),
        alters_base=True,
    ),
    "lora-composer": Composition(
        "LoRA-Composer",
        "lora_composer:LoraComposer",
        "arXiv:2403.11627",
        "2",
        "In boxes by attention: each LoRA's words in its own, none looks into another's.",
        needs=("triggers", "regions"),
        gradients=True,
        alters_base=True,
        one_by_one=True,
    ),
}


def composition(name: str) -> Composition:
    """The composition of this name; MergeError for an unknown one."""
    if name not in COMPOSITIONS:
        raise MergeError(f"Composing must be {', '.join(COMPOSITIONS)}, not {name!r}.")
    return COMPOSITIONS[name]
