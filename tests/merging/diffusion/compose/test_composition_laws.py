"""What holds for every way to compose, row by row of the table, on the embedded base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.render import render
from merging.errors import Cancelled, MergeError
from merging.io.regions import Region

PROMPT = "a photo of a rn1 cat and a rn2 cat"
HALVES = (Region("rn1 cat", (0, 0, 0.5, 1)), Region("rn2 cat", (0.5, 0, 1, 1)))
SMALL = "64x64"
WHOLE = (Region("rn1 cat", (0, 0, 1, 1)),)
Pair = list[tuple[Adapter, float]]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


def far(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in grey levels."""
    return float(np.abs(pixels(one) - pixels(other)).mean())


def hooked(base: Base) -> list[str]:
    """What is left of a drawing in the model."""
    parts = (base.pipeline.unet, base.pipeline.text_encoder)
    named = [pair for part in parts for pair in part.named_modules()]
    return [
        name
        for name, module in named
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> Pair:
    """Two LoRAs, of which the second has fewer layers and none in the text encoder."""
    return [(random_adapter(1), 1.0), (random_adapter(2, marks=(".attn2.",)), 1.0)]


@pytest.fixture(scope="module")
def draw(base: Base) -> Callable[..., Image.Image]:
    """One small picture by a composition, in two steps: two LoRAs have a turn each."""

    def one(name: str, adapters: Pair, **changed: Any) -> Image.Image:
        needs = COMPOSITIONS[name].needs if name in COMPOSITIONS else ()
        asked: dict[str, Any] = {"steps": 2, "compose": name, "size": SMALL}
        asked |= {"regions": HALVES if "regions" in needs else ()} | changed
        return render(base, [PROMPT], [0], adapters=adapters, **asked)[0]

    return one


@pytest.fixture(scope="module")
def plain(draw: Callable[..., Image.Image]) -> Image.Image:
    return draw("sum", [])


@pytest.fixture(scope="module")
def weaker(draw: Callable[..., Image.Image], pair: Pair) -> Image.Image:
    """The first LoRA alone, at less than full strength."""
    return draw("sum", [(pair[0][0], 0.7)])


@pytest.fixture(scope="module")
def together(draw: Callable[..., Image.Image], pair: Pair) -> Callable[[str], Image.Image]:
    """Both LoRAs by a composition, drawn once."""
    return cache(lambda name: draw(name, pair))


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_one_lora_alone_is_that_lora(
    name: str, draw: Callable[..., Image.Image], pair: Pair, weaker: Image.Image
) -> None:
    """Also without a trigger; with a region, where that is the whole picture."""
    if "regions" in COMPOSITIONS[name].needs:
        assert far(draw(name, [(pair[0][0], 0.7)], regions=WHOLE), weaker) < 0.1
    else:
        nameless = [(replace(pair[0][0], trigger=""), 0.7)]
        assert draw(name, nameless).tobytes() == weaker.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_strength_0_is_the_base(
    name: str, draw: Callable[..., Image.Image], pair: Pair, plain: Image.Image
) -> None:
    """Where the composition alters the base as well, all LoRAs at strength 0 draw the same."""
    switched_off = draw(name, [(adapter, 0.0) for adapter, _ in pair])
    if COMPOSITIONS[name].alters_base:
        others = [(replace(pair[1][0], trigger=adapter.trigger), 0.0) for adapter, _ in pair]
        plain = draw(name, others)
    assert np.abs(pixels(switched_off) - pixels(plain)).max() <= 1


@pytest.mark.slow(20)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_order_matters_only_where_the_row_says_so(
    name: str,
    draw: Callable[..., Image.Image],
    pair: Pair,
    plain: Image.Image,
    together: Callable[[str], Image.Image],
) -> None:
    """The same seed gives the same picture, too."""
    there, back = together(name), draw(name, pair[::-1])
    assert far(there, plain) > 1, "the LoRAs do something"
    assert (far(there, back) > 0.5) == COMPOSITIONS[name].ordered
    assert draw(name, pair).tobytes() == there.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_picture_does_not_depend_on_those_beside_it(
    name: str, pair: Pair, together: Callable[[str], Image.Image], base: Base
) -> None:
    regions = HALVES if "regions" in COMPOSITIONS[name].needs else ()
    prompts = ["a photo of a rn2 cat", PROMPT]
    asked: dict[str, Any] = {"adapters": pair, "steps": 2, "compose": name, "regions": regions}
    assert far(render(base, prompts, [4, 0], size=SMALL, **asked)[1], together(name)) < 0.5


@pytest.mark.slow(15)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_three_loras_a_style_and_any_size_without_guidance(
    name: str,
    draw: Callable[..., Image.Image],
    pair: Pair,
    random_adapter: Callable[..., Adapter],
    base: Base,
) -> None:
    style = replace(random_adapter(3, marks=(".attn1.",)), trigger="ink style")
    three = [*pair, (style, 0.5)]
    wide = draw(name, three, guidance=1.0, size="96x64", steps=2, phrases=["rn1 cat"])
    assert wide.size == (96, 64) and pixels(wide).std() > 5
    assert wide.info["maps"]["rn1 cat"].shape == (8, 12)
    assert not hooked(base)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_stop_within_a_step_leaves_the_model(
    name: str, draw: Callable[..., Image.Image], pair: Pair, plain: Image.Image, base: Base
) -> None:
    asked = iter([False] * 400)  # fewer layers than two steps have
    with pytest.raises(Cancelled):
        draw(name, pair, steps=50, stop=lambda: next(asked, True))
    assert not hooked(base)
    assert draw("sum", []).tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    "name", [name for name, row in COMPOSITIONS.items() if "triggers" in row.needs]
)
def test_missing_triggers_are_asked_for(
    name: str, draw: Callable[..., Image.Image], pair: Pair
) -> None:
    with pytest.raises(MergeError, match=r"needs a trigger phrase|No LoRA has the trigger"):
        draw(name, [(replace(adapter, trigger=""), 1.0) for adapter, _ in pair])


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_regions_are_for_those_that_need_them(
    name: str, draw: Callable[..., Image.Image], pair: Pair
) -> None:
    """One without regions asks for them; one that takes none refuses them."""
    needed = "regions" in COMPOSITIONS[name].needs
    with pytest.raises(MergeError, match="needs regions" if needed else "takes no regions"):
        draw(name, pair, regions=() if needed else HALVES)


def test_an_unknown_composition_is_refused(draw: Callable[..., Image.Image]) -> None:
    with pytest.raises(MergeError, match=r"^Composing must be sum, gated.* not 'magic'"):
        draw("magic", [])
