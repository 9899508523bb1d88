"""Strengths of parts and blocks through the service, and files that wait for the base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from merging import formats
from merging.cli.arguments.file_argument import parse_file_argument
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.export.recipe import recipe
from merging.request import MergeRequest
from tests.app.visits import added, finished


@pytest.mark.slow
def test_strengths_apart_reach_the_recipe_as_on_the_command_line(
    studio: Studio, base: Base, pair: tuple[Path, Path]
) -> None:
    """te=, unet= and lbw= of FILE@… and the page's fields are one thing; so are the prompts."""
    session, cards = added(studio, pair)
    cat, pizza = map(SelectedFile.of, cards)
    lines = ("a sks cat on a mat", "two of them")
    picks = (
        replace(cat, strength=0.8, text_encoder=0.5, unet=1.0, blocks="MIDD", prompts=lines),
        replace(pizza, blocks=" "),
    )
    found = finished(studio, session, MergeOrder(picks, samples=2, targets="cross-attention"))
    typed = [
        parse_file_argument(f"{pair[0]}@0.8:te=0.5:unet=1:lbw=MIDD"),
        parse_file_argument(str(pair[1])),
    ]
    cat_source, pizza_source = (one.source(base) for one in typed)
    sources = (
        replace(cat_source, trigger="sks cat", prompts=lines),
        replace(pizza_source, trigger="vxz pizza"),
    )
    request = MergeRequest(sources, samples=2, targets="cross-attention")
    wanted = recipe(request, "mini", base.fingerprint)
    assert found.recipe == wanted
    assert found.recipe["sources"][0]["blocks"]["IN04"] == 0  # type: ignore[index]


def test_unknown_block_weights_are_refused(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = added(studio, pair)
    cat, pizza = map(SelectedFile.of, cards)
    order = MergeOrder((replace(cat, blocks="MIDDLE"), pizza), method="sum")
    with pytest.raises(MergeError, match="“MIDDLE” are neither a preset"):
        finished(studio, session, order)


@pytest.mark.slow
def test_a_dora_waits_for_the_base_and_is_merged_with_it(
    studio: Studio, base: Base, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """DoRA's change depends on the base's weights, which a card has no need of."""
    tensors = load_file(pair[0])
    plain = formats.read(pair[0])
    for layer, own in plain.layers.items():
        key = next(key for key in tensors if key.endswith(".alpha") and spelled(layer) in key)
        whole = base.layers[layer].weight.detach() + own.delta().float()
        norms = 1.5 * whole.norm(dim=1, keepdim=True)
        tensors[key.replace(".alpha", ".dora_scale")] = norms
    file = tmp_path / "loud-cat.safetensors"
    save_file(tensors, file)
    session, cards = added(studio, [file, pair[1]])
    assert "DoRA" in cards[0].family and cards[0].layers["unet"] > 0
    picks = tuple(map(SelectedFile.of, cards))
    found = finished(
        studio, session, MergeOrder((picks[0], replace(picks[1], strength=0.0)), method="sum")
    )
    assert found.recipe["base_fingerprint"] == base.fingerprint
    merged = formats.read(found.kohya)
    for layer, own in plain.layers.items():
        weight = base.layers[layer].weight.detach()
        wanted = 1.5 * (weight + own.delta().float()) - weight
        assert ((merged.layers[layer].delta() - wanted).norm() / wanted.norm()) < 2e-3


def spelled(layer: str) -> str:
    """A layer as kohya's keys spell it."""
    return layer.replace("text_encoder.", "").replace(".", "_")
