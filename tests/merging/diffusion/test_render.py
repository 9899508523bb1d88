"""Pictures: seeds, adapters, gates and parameters, on the embedded base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from merging.adapter import Adapter, LoraLayer
from merging.diffusion.attention_maps import attention, phrase_masks
from merging.diffusion.base import Base, load_base
from merging.diffusion.compose.scene import summed_deltas
from merging.diffusion.gate import (
    Gate,
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silence_unnamed,
    token_gate,
)
from merging.diffusion.heat_map import heat_map
from merging.diffusion.render import render
from merging.diffusion.tokens import text_ids
from merging.errors import Cancelled, MergeError
from merging.options import Sampler

PROMPT = "a photo of a cat on a green background"


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


@pytest.fixture(scope="module")
def plain(base: Base) -> list[Image.Image]:
    return render(base, [PROMPT] * 2, [0, 1], steps=4)


def test_a_seed_gives_the_same_picture_in_every_batch(base: Base, plain: list[Image.Image]) -> None:
    again = render(base, [PROMPT], [1], steps=4)
    assert np.abs(pixels(again[0]) - pixels(plain[1])).max() <= 1  # batches round differently
    assert np.abs(pixels(plain[0]) - pixels(plain[1])).mean() > 1


def test_adapters_change_the_picture_and_leave_the_model(
    base: Base, plain: list[Image.Image], random_adapter: Callable[..., Adapter]
) -> None:
    changed = render(base, [PROMPT], [0], adapters=[(random_adapter(1), 1.0)], steps=4)
    assert np.abs(pixels(changed[0]) - pixels(plain[0])).mean() > 1
    back = render(base, [PROMPT] * 2, [0, 1], steps=4)
    assert back[0].tobytes() == plain[0].tobytes()


def test_the_default_guidance_is_that_of_the_base(base: Base, plain: list[Image.Image]) -> None:
    (mini,) = render(base, [PROMPT], [0], steps=4, guidance=3.0)
    assert np.abs(pixels(mini) - pixels(plain[0])).max() <= 1  # batches round differently
    (other,) = render(replace(base, name="a folder"), [PROMPT], [0], steps=4)
    assert other.info["parameters"] == mini.info["parameters"].replace(
        "scale: 3", "scale: 7"
    ).replace("Model: mini", "Model: a folder")


def test_several_adapters_are_their_exact_sum(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    one, two = random_adapter(1), random_adapter(2, rank=6, alpha=6.0)
    name = next(iter(one.layers))
    total = summed_deltas(base, [(one, 0.5), (two, -2.0)])[name].dense()
    expected = 0.5 * one.layers[name].delta().double() - 2 * two.layers[name].delta().double()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [name for name in get_args(Sampler) if name != "DDIM"])
def test_every_sampler_draws_and_leaves_the_base_as_it_was(
    base: Base, plain: list[Image.Image], sampler: Sampler
) -> None:
    usual = base.pipeline.scheduler
    (other,) = render(base, [PROMPT], [0], steps=4, sampler=sampler)
    assert np.isfinite(pixels(other)).all() and pixels(other).std() > 5
    assert other.tobytes() != plain[0].tobytes()
    assert base.pipeline.scheduler is usual


def test_an_unknown_sampler_is_refused(base: Base) -> None:
    with pytest.raises(MergeError, match=r"sampler must be DDIM, .* not 'magic'"):
        render(base, [PROMPT], [0], sampler="magic")  # type: ignore[arg-type]


def test_a_negative_prompt_counts(base: Base, plain: list[Image.Image]) -> None:
    (other,) = render(base, [PROMPT], [0], steps=4, negative="a photo of a dog")
    assert other.tobytes() != plain[0].tobytes()


def test_maps_show_where_a_concept_is(base: Base) -> None:
    """Recording changes no picture; the maps of two objects side by side differ."""
    prompt, phrases = "a photo of a cat and a pizza on a green background", ["cat", "pizza", "owl"]
    (image,) = render(base, [prompt], [1], steps=6, phrases=phrases)
    assert image.tobytes() == render(base, [prompt], [1], steps=6)[0].tobytes()
    cat, pizza, owl = (image.info["maps"][phrase] for phrase in phrases)
    torch.testing.assert_close(cat.mean(), torch.tensor(1.0))
    assert not owl.any(), "it is not in the prompt"
    assert torch.corrcoef(torch.stack([cat.flatten(), pizza.flatten()]))[0, 1] < 0.5
    assert heat_map(image, cat).tobytes() != heat_map(image, pizza).tobytes()
    assert pixels(heat_map(image, owl)).mean() < pixels(heat_map(image, cat)).mean()
    assert not any(layer._forward_hooks for layer in base.layers.values())


@pytest.mark.slow
def test_pictures_have_the_requested_size(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """Wider than high, with maps; "" means the native size."""
    cat = replace(random_adapter(1), trigger="cat")
    asked: dict[str, Any] = {"adapters": [(cat, 0.1)], "steps": 2}
    (wide,) = render(base, [PROMPT], [0], size="192x128", phrases=["cat"], **asked)
    assert wide.size == (192, 128) and pixels(wide).std() > 5
    assert wide.info["maps"]["cat"].shape == (16, 24)
    assert "Size: 192x128," in wide.info["parameters"]
    default, native = (
        render(base, [PROMPT], [0], size=size, **asked)[0] for size in ("", "128 x 128")
    )
    assert default.tobytes() == native.tobytes()


@pytest.mark.parametrize("size", ["large", "64", "100x64", "64x320", "0x64", "64x64x64"])
def test_an_impossible_size_is_refused(base: Base, size: str) -> None:
    with pytest.raises(MergeError, match=r"^A (size is WIDTHxHEIGHT|picture of .* multiple of 32)"):
        render(base, [PROMPT], [0], size=size)


def test_attention_equals_that_of_diffusers(base: Base) -> None:
    """One layer against diffusers' ``get_attention_scores``."""
    block = base.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, block.to_q.in_features, generator=generator)
    words = torch.randn(1, 77, block.to_k.in_features, generator=generator)
    with torch.no_grad():
        q, k = block.to_q(x), block.to_k(words)
        heads = [block.head_to_batch_dim(states) for states in (q, k)]
        expected = block.get_attention_scores(*heads).mean(dim=0, keepdim=True)
        torch.testing.assert_close(attention(q, k, block.heads), expected)


def test_stop_between_steps(base: Base) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        render(base, [PROMPT], [0], steps=50, stop=lambda: next(asked, True))


@pytest.mark.parametrize("values", [{"steps": 0}, {"steps": 1000}, {"guidance": -1.0}])
def test_values_out_of_range_are_refused(base: Base, values: dict) -> None:
    with pytest.raises(MergeError, match="Steps must be"):
        render(base, [PROMPT], [0], **values)


def test_too_long_a_prompt_is_refused(base: Base) -> None:
    with pytest.raises(MergeError, match="times what this base reads at once"):
        render(base, ["a cat " * 400], [0])


def test_an_adapter_for_another_base_is_named(base: Base) -> None:
    layer = LoraLayer(torch.zeros(4, 1), torch.zeros(1, 4), 1.0)
    with pytest.raises(MergeError, match=r"alien: layer unet\.nowhere does not exist"):
        render(base, [PROMPT], [0], adapters=[(Adapter("alien", {"unet.nowhere": layer}), 1.0)])


def test_a_missing_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="choose"):
        load_base(str(tmp_path / "nothing"), "cpu")
    with pytest.raises(MergeError, match=r"network|choose"):
        load_base("sd15", "cpu")


def test_tokens_of_a_phrase_belong_to_its_lora(base: Base) -> None:
    words = token_gate(base, ["a photo of a sks cat and a vxz pizza"], ["sks cat", "vxz pizza"])
    tokens = base.pipeline.tokenizer.convert_ids_to_tokens(
        text_ids(base, ["a photo of a sks cat and a vxz pizza"])[0].tolist()
    )
    weights = dict(zip(tokens, words[0].tolist(), strict=False))
    assert weights["cat</w>"] == [1, 0] and weights["pizza</w>"] == [0, 1]
    assert weights["and</w>"] == [1, 1] and weights[tokens[0]] == [0, 0]
    single = [row for row in words[0].tolist() if row in ([1, 0], [0, 1])]
    marks = concept_tokens(base, ["a photo of a sks cat and a vxz pizza"], ["sks cat", "vxz pizza"])
    assert torch.equal(marks[0].any(dim=1), words[0].sum(dim=1) == 1)
    assert marks.sum().item() == len(single)


def test_a_gate_of_ones_is_the_plain_sum(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    pair = [(random_adapter(1), 1.0), (random_adapter(2), 1.0)]
    gate = constant_gate(torch.ones(1, 2), base.pipeline.tokenizer.model_max_length, (16, 16))
    ids = text_ids(base, [PROMPT])
    channels = base.pipeline.unet.config.in_channels
    latent = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(0))

    def noise() -> torch.Tensor:
        states = base.pipeline.text_encoder(ids)[0]
        return base.pipeline.unet(latent, 500, encoder_hidden_states=states).sample

    with torch.no_grad():
        with base.changed(summed_deltas(base, pair)):
            together = noise()
        with gated(base, [summed_deltas(base, [one]) for one in pair], gate):
            torch.testing.assert_close(noise(), together, rtol=1e-3, atol=1e-4)


@pytest.fixture
def parted(base: Base) -> Callable[..., Gate]:
    """The gate of a prompt after one step of random evidence."""

    def gate_for(prompt: str, phrases: Sequence[str], silenced: bool = False) -> Gate:
        count = len(phrases)
        gate = constant_gate(
            torch.ones(1, count), base.pipeline.tokenizer.model_max_length, (16, 16)
        )
        gate.tokens = token_gate(base, [prompt], phrases)
        if silenced:
            gate = silence_unnamed(gate, phrase_masks(base, [prompt], phrases).amax(dim=1))
        finder = RegionFinder(base, gate, concept_tokens(base, [prompt], phrases))
        finder.evidence = torch.rand(1, count, 16, 16, generator=torch.Generator().manual_seed(0))
        finder.update_regions()
        return gate

    return gate_for


def test_regions_part_the_picture_between_the_things(parted: Callable[..., Gate]) -> None:
    """Three LoRAs, the third of which the prompt does not name."""
    regions = parted("a cat and a pizza", ["cat", "pizza", "car"]).regions[0]
    assert torch.equal(regions[0] + regions[1], torch.ones(16, 16))
    assert 0 < regions[0].sum() < 256 and torch.equal(regions[2], torch.ones(16, 16))


def test_a_style_that_is_named_acts_on_all_words_and_everywhere(
    parted: Callable[..., Gate],
) -> None:
    gate = parted("a cat and a pizza in ink style", ["cat", "pizza", "ink style"], silenced=True)
    assert torch.equal(gate.regions[0, 2], torch.ones(16, 16))
    assert torch.equal(gate.regions[0, :2].sum(dim=0), torch.ones(16, 16))
    assert gate.tokens[0, 1:, 2].all() and not gate.tokens[0, 0].any()
    alone = parted("a cat in ink style", ["cat", "ink style"])
    assert torch.equal(alone.regions, torch.ones(1, 2, 16, 16)), "there is only one thing"


def test_a_teacher_silences_what_its_prompt_does_not_name(parted: Callable[..., Gate]) -> None:
    gate, unsilenced = (
        parted("a cat and a pizza", ["cat", "pizza", "car"], silenced) for silenced in (True, False)
    )
    assert not gate.tokens[..., 2].any() and not gate.regions[:, 2].any()
    assert torch.equal(gate.tokens[..., :2], unsilenced.tokens[..., :2])
    assert torch.equal(gate.regions.sum(dim=1), torch.ones(1, 16, 16))


def test_gated_pictures_need_phrases_and_differ_from_the_sum(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    pair = [(random_adapter(1), 1.0), (random_adapter(2), 1.0)]
    prompt = ["a photo of a rn1 cat and a rn2 cat"]
    together = render(base, prompt, [0], adapters=pair, steps=3)
    apart = render(base, prompt, [0], adapters=pair, steps=3, compose="gated")
    assert together[0].tobytes() != apart[0].tobytes()
    unnamed = render(base, ["a photo of a boat"], [0], adapters=pair, steps=3, compose="gated")
    plain = render(base, ["a photo of a boat"], [0], steps=3)
    assert unnamed[0].tobytes() == plain[0].tobytes(), "not in the prompt"
    nameless = [(replace(adapter, trigger=""), 1.0) for adapter, _ in pair]
    with pytest.raises(MergeError, match="trigger phrase"):
        render(base, prompt, [0], adapters=nameless, compose="gated")
    assert not any(layer._forward_hooks for layer in base.layers.values())
