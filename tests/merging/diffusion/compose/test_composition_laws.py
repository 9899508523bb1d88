"""What holds for every way to compose, row by row of the table, on the embedded base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.render import render
from merging.errors import Cancelled, MergeError

PROMPT = "a photo of a rn1 cat and a rn2 cat"
Pair = list[tuple[Adapter, float]]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


def far(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in grey levels."""
    return float(np.abs(pixels(one) - pixels(other)).mean())


@pytest.fixture(scope="module")
def pair(random_adapter: Callable[..., Adapter]) -> Pair:
    """Two LoRAs, of which the second has fewer layers and none in the text encoder."""
    return [(random_adapter(1), 1.0), (random_adapter(2, marks=(".attn2.",)), 1.0)]


@pytest.fixture(scope="module")
def draw(base: Base) -> Callable[..., Image.Image]:
    """One picture by a composition, in three steps."""

    def one(name: str, adapters: Pair, **changed: Any) -> Image.Image:
        asked: dict[str, Any] = {"steps": 3, "compose": name, **changed}
        return render(base, [PROMPT], [0], adapters=adapters, **asked)[0]

    return one


@pytest.fixture(scope="module")
def plain(draw: Callable[..., Image.Image]) -> Image.Image:
    return draw("sum", [])


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_one_lora_alone_is_that_lora(
    name: str, draw: Callable[..., Image.Image], pair: Pair
) -> None:
    nameless = [(replace(pair[0][0], trigger=""), 0.7)]
    assert draw(name, nameless).tobytes() == draw("sum", nameless).tobytes()


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_strength_0_is_the_base(
    name: str, draw: Callable[..., Image.Image], pair: Pair, plain: Image.Image
) -> None:
    switched_off = [(adapter, 0.0) for adapter, _ in pair]
    assert np.abs(pixels(draw(name, switched_off)) - pixels(plain)).max() <= 1


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_order_matters_only_where_the_row_says_so(
    name: str, draw: Callable[..., Image.Image], pair: Pair, plain: Image.Image
) -> None:
    """The same seed gives the same picture, too."""
    there, back = draw(name, pair), draw(name, pair[::-1])
    assert far(there, plain) > 1, "the LoRAs do something"
    assert (far(there, back) > 0.5) == COMPOSITIONS[name].ordered
    assert draw(name, pair).tobytes() == there.tobytes()


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
    assert wide.info["maps"]["rn1 cat"].shape == (16, 24)
    assert not any(module._forward_hooks for module in base.modules.values())
    assert not any(module._forward_pre_hooks for module in base.modules.values())


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_stop_within_a_step_leaves_the_model(
    name: str, draw: Callable[..., Image.Image], pair: Pair, plain: Image.Image, base: Base
) -> None:
    asked = iter([False] * 400)  # fewer layers than two steps have
    with pytest.raises(Cancelled):
        draw(name, pair, steps=50, stop=lambda: next(asked, True))
    assert not any(module._forward_hooks for module in base.modules.values())
    assert draw("sum", []).tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    "name", [name for name, row in COMPOSITIONS.items() if "triggers" in row.needs]
)
def test_missing_triggers_are_asked_for(
    name: str, draw: Callable[..., Image.Image], pair: Pair
) -> None:
    with pytest.raises(MergeError, match="needs a trigger phrase for every LoRA"):
        draw(name, [(replace(adapter, trigger=""), 1.0) for adapter, _ in pair])


def test_an_unknown_composition_is_refused(draw: Callable[..., Image.Image]) -> None:
    with pytest.raises(MergeError, match=r"^Composing must be sum, gated.* not 'magic'"):
        draw("magic", [])
