"""The table of all merging methods.

A method's module is imported when it is first used, since importing torch takes seconds: the page
and the list of methods need the table alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from merging.linalg.closed_form import LayerProblem
    from merging.linalg.delta import Delta
    from merging.option_field import Option


# "weights": of the base model; "inputs": of the layers under every LoRA, from calibration prompts;
# "merged inputs": also those under the merge
Needs = Literal["nothing", "weights", "inputs", "merged inputs"]


class MethodData(TypedDict):
    """A method as plain data: the command `methods` and the endpoint /methods have it."""

    title: str
    summary: str
    needs: Needs
    strength: str
    source: str


@dataclass(frozen=True)
class Method:
    """One way to merge a layer, with what a user must know to choose it."""

    title: str
    function: str  # module:name in this package
    source: str
    needs: Needs
    strength: str  # the meaning of the strengths
    summary: str  # one sentence for the page
    # Whether it solves only the keys and values of cross-attention, on the tokens of the trigger
    # phrases and on prompts without them; other layers fall back.
    on_phrases: bool = False
    averages: bool = False  # strengths are relative to each other
    random: bool = False  # the result depends on the seed
    ignores: tuple[str, ...] = ()  # options of merging/options.py without effect on it

    @property
    def solve(self) -> Callable[[LayerProblem], Delta]:
        """The function that merges one layer."""
        return resolve_name(f"{__name__}.{self.function}")

    @property
    def calibrated(self) -> bool:
        """Whether it runs calibration prompts through the base model."""
        return self.needs in ("inputs", "merged inputs")

    def uses(self, option: Option) -> bool:
        """Whether an option changes the result."""
        if option.name in self.ignores:
            return False
        if option.concerns == "merged inputs":
            return self.needs == "merged inputs"
        if option.name == "seed" and self.random:
            return True
        return option.concerns == "every method" or self.calibrated

    def as_dict(self) -> MethodData:
        """Plain data for JSON."""
        return {
            "title": self.title,
            "summary": self.summary,
            "needs": self.needs,
            "strength": self.strength,
            "source": self.source,
        }


METHODS: dict[str, Method] = {
    "iteris": Method(
        "IterIS",
        "iteris:iteris",
        "arXiv:2411.15231",
        "merged inputs",
        "the strength at which each LoRA is imitated",
        "Imitates every LoRA on its prompts, with the inputs that the merged model really has.",
    ),
    "regmean": Method(
        "RegMean",
        "regmean:regmean",
        "arXiv:2212.09849",
        "inputs",
        "the strength at which each LoRA is imitated",
        "Imitates every LoRA on the inputs it has alone; changes in earlier layers are not seen.",
    ),
    "regmean-damped": Method(
        "RegMean, damped",
        "regmean_damped:regmean_damped",
        "arXiv:2212.09849",
        "inputs",
        "the strength at which each LoRA is imitated",
        "RegMean with its authors' 0.9 on all correlations between channels.",
    ),
    "mix-of-show": Method(
        "Mix-of-Show objective",
        "mix_of_show:mix_of_show",
        "arXiv:2305.18292",
        "inputs",
        "the strength at which each LoRA is imitated",
        "Like RegMean, but inputs that no prompt has stay unchanged, whatever the fallback.",
        ignores=("cross_ridge",),
    ),
    "learned-cat": Method(
        "Learned CAT",
        "learned_cat:learned_cat",
        "arXiv:2410.13025",
        "inputs",
        "the strength at which each LoRA is imitated",
        "The sum, each LoRA with the weight in each layer at which all are imitated best.",
        ignores=("mode",),
    ),
    "custom-diffusion": Method(
        "Custom Diffusion",
        "custom_diffusion:custom_diffusion",
        "arXiv:2212.04488",
        "inputs",
        "the strength at which each LoRA is imitated",
        "Text keys and values treat each phrase as its LoRA does, and change other prompts least.",
        on_phrases=True,
    ),
    "sum": Method(
        "Weighted sum",
        "sum:weighted_sum",
        "arXiv:2212.04089",
        "nothing",
        "each LoRA's multiplier, as in `<lora:name:strength>`",
        "Exactly what loading all LoRAs together does: concatenation, with nothing lost.",
    ),
    "equalised": Method(
        "Sum, norms equalised",
        "equalised:equalised",
        "arXiv:2507.05678",
        "nothing",
        "each LoRA's multiplier, after large LoRAs were scaled down",
        "The sum after LoRAs larger than the median were scaled down, layer by layer.",
    ),
    "average": Method(
        "Weighted average",
        "average:average",
        "arXiv:2203.05482",
        "nothing",
        "relative: doubling all of them changes nothing",
        "The sum divided by the sum of strengths: gentle, and usually too weak.",
        averages=True,
    ),
    "mwa": Method(
        "MWA",
        "mwa:mwa",
        "arXiv:2504.18580",
        "nothing",
        "relative: doubling all of them changes nothing",
        "Average of epochs of one training: later ones count more, by the step in kohya's headers.",
        averages=True,
    ),
    "ties": Method(
        "TIES",
        "ties:ties",
        "arXiv:2306.01708",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Drops small entries, elects a sign per entry, and averages the entries of that sign.",
    ),
    "knots": Method(
        "KnOTS-TIES",
        "knots:knots",
        "arXiv:2410.19735",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "TIES in one common basis of the LoRAs' effects on the layer's output.",
    ),
    "dare": Method(
        "DARE",
        "dare:dare",
        "arXiv:2311.03099",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Drops entries at random, by the seed, enlarges the others and sums.",
        random=True,
    ),
    "tsv": Method(
        "TSV-Merge",
        "tsv:tsv",
        "arXiv:2412.00081",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "The sum, on directions made orthogonal between the LoRAs.",
    ),
    "iso-c": Method(
        "Iso-C",
        "iso_c:iso_c",
        "arXiv:2502.04959",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "The sum with all of its directions made equally strong.",
    ),
    "dc-merge": Method(
        "DC-Merge",
        "dc_merge:dc_merge",
        "arXiv:2603.06242",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Evens out each LoRA's directions, and merges them in a basis that covers all LoRAs.",
    ),
    "do-merging": Method(
        "DO-Merging",
        "do_merging:do_merging",
        "arXiv:2505.15875",
        "nothing",
        "how much each LoRA adds to the common magnitudes; directions count alike",
        "Makes the LoRAs nearly orthogonal, then averages magnitudes and directions apart.",
    ),
    "optmerge": Method(
        "OptMerge",
        "optmerge:optmerge",
        "arXiv:2505.19892",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Trains the mean until it does what each LoRA does on that LoRA's own directions.",
    ),
    "lora-lego": Method(
        "LoRA-LEGO",
        "lora_lego:lora_lego",
        "arXiv:2409.16167",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Clusters the rank-one units of all LoRAs: the result has the largest LoRA's rank.",
    ),
    "opcm": Method(
        "OPCM",
        "opcm:opcm",
        "arXiv:2501.09522",
        "nothing",
        "each LoRA's multiplier before they are merged",
        "Adds LoRAs one by one, largest first, without the directions that earlier ones use.",
    ),
    "widen": Method(
        "WIDEN",
        "widen:widen",
        "arXiv:2408.03092",
        "weights",
        "each LoRA's multiplier before they are merged",
        "The sum, every input channel weighed by how much each LoRA changes it in the base model.",
    ),
}
