"""The committed tables are the models' own, and no spelling in any family means two layers."""

from __future__ import annotations

import pytest
import torch

from assets.build import layer_tables
from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import TABLES, table
from merging.formats.key_names import attn_processors, kohya, ldm, peft
from merging.formats.key_names.table import SPELLINGS, module_names
from merging.formats.layer_tables import flat, table_of


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_models(name: str) -> None:
    found, rows = table(name), layer_tables.rows(name)
    assert found.shapes | found.vectors == rows
    assert list(found.shapes) == [key for key in rows if key in found.shapes]


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_every_linear_and_conv_layer_and_every_vector(name: str) -> None:
    unet, text = layer_tables.models(name)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    for part, model in (("unet.", unet), ("text_encoder.", text)):
        count = sum(isinstance(layer, kinds) for layer in model.modules())
        assert count == sum(layer.startswith(part) for layer in table(name).shapes)
        count = sum(value.ndim == 1 for value in model.parameters())
        assert count == sum(vector.startswith(part) for vector in table(name).vectors)


def test_sd15_has_282_layers_in_the_unet_and_72_in_the_text_encoder_and_109_and_25_norms() -> None:
    shapes = table("sd15").shapes
    assert sum(name.startswith("unet.") for name in shapes) == 282
    assert sum(name.startswith("text_encoder.text_model.") for name in shapes) == 72
    assert shapes["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"] == (320, 768)
    assert shapes["unet.up_blocks.1.resnets.0.conv1"] == (1280, 2560, 3, 3)
    norms = [name for name in table("sd15").modules if name not in shapes]
    assert sum(name.startswith("unet.") for name in norms) == 109
    assert len(norms) == 109 + 25


@pytest.mark.parametrize("name", TABLES)
def test_no_name_means_two_layers(name: str) -> None:
    """As many names are left when those of all spellings are put together, and none is missing."""
    base = table(name)
    by_spelling = [names(base) for names in SPELLINGS.values()]
    assert len(module_names(base)) == sum(map(len, by_spelling))
    assert all(set(names.values()) <= {*base.modules} for names in by_spelling)
    for family in (kohya, ldm, peft):
        assert set(family.names(base).values()) == {*base.modules}
    assert set(attn_processors.names(base).values()) == {*base.shapes}


# What the original code calls layers of Stable Diffusion 1.5, from its own checkpoint.
LDM_NAMES = {
    "input_blocks.0.0": "conv_in",
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    ),
    "input_blocks.2.0.in_layers.2": "down_blocks.0.resnets.1.conv1",
    "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks.4.0.skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks.8.1.proj_out": "down_blocks.2.attentions.1.proj_out",
    "input_blocks.11.0.emb_layers.1": "down_blocks.3.resnets.1.time_emb_proj",
    "middle_block.0.out_layers.3": "mid_block.resnets.0.conv2",
    "middle_block.1.proj_in": "mid_block.attentions.0.proj_in",
    "middle_block.2.in_layers.2": "mid_block.resnets.1.conv1",
    "output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks.3.1.transformer_blocks.0.ff.net.0.proj": (
        "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj"
    ),
    "output_blocks.5.2.conv": "up_blocks.1.upsamplers.0.conv",
    "output_blocks.11.1.proj_out": "up_blocks.3.attentions.2.proj_out",
    "time_embed.2": "time_embedding.linear_2",
    "output_blocks.7.0.out_layers.0": "up_blocks.2.resnets.1.norm2",
    "input_blocks.2.1.norm": "down_blocks.0.attentions.1.norm",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@pytest.mark.parametrize("name", LDM_NAMES)
def test_golden_ldm_names(name: str) -> None:
    assert ldm.modules(table("sd15"))[name] == f"unet.{LDM_NAMES[name]}"


def test_unknown_table_is_refused_with_the_choices() -> None:
    with pytest.raises(MergeError, match="“sdxl”; choose one of sd15, mini"):
        table("sdxl")


def test_the_table_of_an_adapter_is_found_by_its_layers() -> None:
    def adapter(base: str, size: tuple[int, int], layer: str = "unet.conv_in") -> Adapter:
        return Adapter(
            "it", {layer: LoraLayer(torch.ones(size[0], 1), torch.ones(1, size[1]), 1)}, base
        )

    assert table_of(adapter("somebody/finetune", flat((320, 4, 3, 3)))).name == "sd15"
    assert table_of(adapter("", flat((64, 8, 3, 3)))).name == "mini"
    with pytest.raises(MergeError, match=r"it: layer unet\.conv_in fits no base"):
        table_of(adapter("sd15", (77, 36)))
    with pytest.raises(MergeError, match=r"it: layer unet\.nowhere fits no base"):
        table_of(adapter("sd15", (320, 36), "unet.nowhere"))


def kohya_names_of_sd15() -> set[str]:
    """The 264 modules that sd-scripts trains in Stable Diffusion 1.5, spelled by its own rules."""
    places = [f"down_blocks_{block}_attentions_{n}" for block in range(3) for n in range(2)]
    places += ["mid_block_attentions_0"]
    places += [f"up_blocks_{block}_attentions_{n}" for block in range(1, 4) for n in range(3)]
    inner = [f"attn{n}_to_{part}" for n in (1, 2) for part in ("q", "k", "v", "out_0")]
    inner = [f"transformer_blocks_0_{part}" for part in (*inner, "ff_net_0_proj", "ff_net_2")]
    unet = {
        f"lora_unet_{place}_{part}" for place in places for part in (*inner, "proj_in", "proj_out")
    }
    parts = [f"self_attn_{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp_fc1", "mlp_fc2"]
    layers = [f"lora_te_text_model_encoder_layers_{n}" for n in range(12)]
    return unet | {f"{layer}_{part}" for layer in layers for part in parts}


def test_golden_kohya_names() -> None:
    golden = kohya_names_of_sd15()
    assert len(golden) == 264
    assert golden <= {kohya.key_stems(layer)[0] for layer in table("sd15").shapes}
