"""Block weights: the layers of every block, lists and presets, and LoRAs in pasted prompts."""

from __future__ import annotations

import pytest
import torch

from merging.adapter import Adapter, LoraLayer
from merging.block_weights import (
    BLOCKS,
    LISTS,
    PRESETS,
    Mention,
    block_weights,
    format_weights,
    parse_mentions,
)
from merging.blocks import apply_block_weights, blocks
from merging.errors import MergeError
from merging.formats import table
from merging.formats.layer_tables import flat


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    """Rank 1 on every layer of Stable Diffusion 1.5."""
    layers = {
        name: LoraLayer(torch.ones(flat(shape)[0], 1), torch.ones(1, flat(shape)[1]), 0.5)
        for name, shape in table("sd15").shapes.items()
    }
    return Adapter("cat", layers, "sd15", sha256="ab")


def assert_times(actual: LoraLayer, strength: float, layer: LoraLayer) -> None:
    """The result is strength · layer: the same factors, another scale."""
    assert actual.up is layer.up
    assert actual.down is layer.down
    assert actual.scale == pytest.approx(strength * layer.scale)


# A layer of each block that matters, by the extension's own table.
PLACES = {
    "text_encoder.text_model.encoder.layers.11.mlp.fc2": "BASE",
    "unet.conv_in": "IN00",
    "unet.down_blocks.0.attentions.0.proj_in": "IN01",
    "unet.down_blocks.0.attentions.1.proj_in": "IN02",
    "unet.down_blocks.0.downsamplers.0.conv": "IN03",
    "unet.down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k": "IN08",
    "unet.down_blocks.3.resnets.1.conv1": "IN11",
    "unet.mid_block.attentions.0.proj_out": "M00",
    "unet.mid_block.resnets.1.conv2": "M00",
    "unet.up_blocks.0.resnets.2.conv1": "OUT02",
    "unet.up_blocks.0.upsamplers.0.conv": "OUT02",
    "unet.up_blocks.1.attentions.0.proj_in": "OUT03",
    "unet.up_blocks.3.attentions.2.proj_out": "OUT11",
    "unet.up_blocks.3.attentions.2.norm": "OUT11",
    "text_encoder.text_model.final_layer_norm": "BASE",
}


@pytest.mark.parametrize("layer", PLACES)
def test_the_block_of_a_layer(layer: str) -> None:
    assert blocks(table("sd15"))[layer] == PLACES[layer]


def test_every_block_has_layers_and_three_layers_have_no_block() -> None:
    shapes, places = table("sd15").shapes, blocks(table("sd15"))
    assert set(places.values()) == set(BLOCKS)
    outside = ["unet.conv_out", "unet.time_embedding.linear_1", "unet.time_embedding.linear_2"]
    assert sorted(shapes.keys() - places.keys()) == outside


def test_seventeen_are_the_blocks_with_attention_and_the_text_encoder() -> None:
    places = blocks(table("sd15"))
    attended = {places[layer] for layer in places if ".attentions." in layer}
    assert set(LISTS[17]) == attended | {"BASE"}
    assert {size: len(names) for size, names in LISTS.items()} == {n: n for n in (12, 17, 20, 26)}


@pytest.mark.parametrize("size", [12, 17, 20, 26])
def test_lists_of_every_length(adapter: Adapter, size: int) -> None:
    expected = {block: (n + 1) / 4 for n, block in enumerate(LISTS[size])}
    text = ",".join(map(str, expected.values()))
    actual = apply_block_weights(adapter, weights=block_weights(text))
    places = blocks(table("sd15"))
    for name, layer in adapter.layers.items():
        strength = expected.get(places[name], 0.0) if name in places else 1.0
        assert (name in actual.layers) == (strength != 0)
        if strength:
            assert_times(actual.layers[name], strength, layer)


# As the extension's own file spells them.
AS_LISTS = {
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
    "NONE": ",".join("0" * 17),
    "ALL": ",".join("1" * 17),
    "ALL0.5": ",".join(["0.5"] * 17),
    # of ours
    "STYLE": "1,1,1,1,1,0,0,0,0,0,0,1,1,1,1,1,1",
    "SUBJECT": "1,0,0,0,0,1,1,1,1,1,1,0,0,0,0,0,0",
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    assert block_weights(name.lower()) == block_weights(AS_LISTS[name])


@pytest.mark.parametrize("name", [*PRESETS, "0.5,0,1,1,1,1,1,1,1,1,1,-2", ",".join("01" * 13)])
def test_weights_can_be_written_again(name: str) -> None:
    assert format_weights(block_weights(name)) == name


def test_style_and_subject_part_the_unet_by_the_width_of_its_channels(adapter: Adapter) -> None:
    """Both have the text encoder; the outer blocks have 320 and 640 channels."""
    channels = {"STYLE": {320, 640}, "SUBJECT": {1280}}
    for preset, widths in channels.items():
        kept = apply_block_weights(adapter, weights=block_weights(preset)).layers
        attention = {name for name in adapter.layers if name.endswith(".attn2.to_out.0")}
        assert {len(kept[name].up) for name in attention & kept.keys()} == widths
        assert {name for name in adapter.layers if name.startswith("text_encoder.")} <= kept.keys()
    both = [block_weights(preset) for preset in channels]
    assert all(sum(one[block] for one in both) == 1 for block in LISTS[17][1:])


def test_text_encoder_and_unet_apart(adapter: Adapter) -> None:
    actual = apply_block_weights(adapter, text_encoder=0.0, unet=-0.5)
    assert actual.layers.keys() == {name for name in adapter.layers if name.startswith("unet.")}
    for name, layer in actual.layers.items():
        assert_times(layer, -0.5, adapter.layers[name])
    assert (actual.name, actual.base, actual.sha256) == ("cat", "sd15", "ab")


def test_parts_and_blocks_multiply(adapter: Adapter) -> None:
    actual = apply_block_weights(
        adapter, text_encoder=0.5, unet=2.0, weights=block_weights("ALL0.5")
    )
    scales = {name: layer.scale / 0.5 for name, layer in actual.layers.items()}
    assert scales["text_encoder.text_model.encoder.layers.0.mlp.fc1"] == 0.25
    assert scales["unet.mid_block.attentions.0.proj_in"] == 1.0
    assert scales["unet.conv_out"] == 2.0


def test_neutral_weights_change_nothing(adapter: Adapter) -> None:
    assert apply_block_weights(adapter, weights=dict.fromkeys(BLOCKS, 1.0)).layers == adapter.layers


def test_nothing_left_is_refused(adapter: Adapter) -> None:
    with pytest.raises(MergeError, match="cat: its part and block weights are 0 for all"):
        apply_block_weights(adapter, text_encoder=0, unet=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OUTX", "neither a preset (NONE, ALL, INS"),
        ("1,1,1", "there are 3"),
        ("", "there are 1"),
        (",".join(["1"] * 16 + ["R"]), "“R” is no number"),
        (",".join(["1"] * 16 + ["nan"]), "“nan” is no number"),
    ],
)
def test_unknown_presets_and_lists_are_refused(text: str, message: str) -> None:
    with pytest.raises(MergeError) as caught:
        block_weights(text)
    assert message in str(caught.value)


# A prompt, the LoRAs in it, and the rest of it.
PROMPTS: dict[str, tuple[list[Mention], str]] = {
    "a cat": ([], "a cat"),
    "<lora:a>": ([Mention("a")], ""),
    "a cat <lora:my cat v1.5:0.7> on <lyco:b:-1.2> grass": (
        [Mention("my cat v1.5", 0.7, 0.7), Mention("b", -1.2, -1.2)],
        "a cat on grass",
    ),
    "<lora:a:0.5:0.8>": ([Mention("a", 0.5, 0.8)], ""),
    "<lora:a:te=0.5:unet=0>": ([Mention("a", 0.5, 0.0)], ""),
    "<lora:a:0.7:lbw=OUTALL>": ([Mention("a", 0.7, 0.7, block_weights("OUTALL"))], ""),
    "<lora:a:0.7:INS>": ([Mention("a", 0.7, 0.7, block_weights("INS"))], ""),
    f"<lora:a:1:0.5:lbw={AS_LISTS['IND']}>": (
        [Mention("a", 1.0, 0.5, block_weights("IND"))],
        "",
    ),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_pasted_prompts(prompt: str) -> None:
    assert parse_mentions(prompt) == PROMPTS[prompt]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("<lora:a:much>", "<lora:a:much>: “much” is no number"),
        ("<lora:a:1:lbw=OUTX>", "neither a preset"),
        ("<lora:a:1:step=0-10>", "step applies to some sampling steps only"),
        ("<lora:a:1:1:1>", "unet is there twice"),
        ("<lora:a:1:size=3>", "size is unknown; use te, unet or lbw"),
        ("<lora:a:1", "“<lora:a:1” is not written as"),
        ("<lora>", "“<lora>” is not written as"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused(prompt: str, message: str) -> None:
    with pytest.raises(MergeError) as caught:
        parse_mentions(prompt)
    assert message in str(caught.value)
