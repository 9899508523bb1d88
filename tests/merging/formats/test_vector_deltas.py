"""Biases and normalisations: all spellings are read; only full files hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merging.adapter import Adapter, VectorDelta
from merging.errors import MergeError
from merging.formats import Written, overview, read, table, write_diffusers, write_full, write_kohya
from merging.formats.compatibility import PROGRAMS
from merging.formats.layer_tables import table_of
from merging.formats.vector_deltas import vector_lengths
from tests.conftest import distance
from tests.merging.formats.handmade import (
    CONV,
    FC1,
    TO_K,
    TO_OUT,
    accounted,
    factors,
    kohya,
    merged_alone,
    refusal,
    saved,
)

BASIC = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
PEFT = {
    f"{TO_OUT.name}.lora_A.weight": factors(TO_OUT).down,
    f"{TO_OUT.name}.lora_B.weight": factors(TO_OUT).up,
}
BLOCK = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
CLIP = "text_encoder.text_model"


def vector(length: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def shifted(shifts: Mapping[str, VectorDelta]) -> dict[str, Tensor]:
    """By parameter."""
    return {f"{m}.{end}": v for m, own in shifts.items() for end, v in own.vectors().items()}


# The key of a tensor, and the base's parameter to which it is added.
SPELLED = {
    f"{FC1.kohya}.diff_b": f"{FC1.name}.bias",
    f"{CONV.kohya}.diff_b": f"{CONV.name}.bias",
    "lora_unet_conv_norm_out.w_norm": "unet.conv_norm_out.weight",
    "lora_unet_conv_norm_out.b_norm": "unet.conv_norm_out.bias",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_norm2.w_norm": (
        f"{BLOCK}.norm2.weight"
    ),
    "lora_unet_down_blocks_0_attentions_0_norm.diff": "unet.down_blocks.0.attentions.0.norm.weight",
    "lora_unet_input_blocks_1_0_in_layers_0.b_norm": "unet.down_blocks.0.resnets.0.norm1.bias",
    "lycoris_mid_block_resnets_1_norm2.w_norm": "unet.mid_block.resnets.1.norm2.weight",
    "lora_te_text_model_encoder_layers_1_layer_norm1.w_norm": (
        f"{CLIP}.encoder.layers.1.layer_norm1.weight"
    ),
    "lora_te1_text_model_final_layer_norm.b_norm": f"{CLIP}.final_layer_norm.bias",
    "diffusion_model.input_blocks.1.1.norm.diff": "unet.down_blocks.0.attentions.0.norm.weight",
    "diffusion_model.out.0.diff_b": "unet.conv_norm_out.bias",
    "diffusion_model.time_embed.0.diff_b": "unet.time_embedding.linear_1.bias",
    "text_encoders.clip_l.transformer.text_model.final_layer_norm.diff": (
        f"{CLIP}.final_layer_norm.weight"
    ),
}


@pytest.mark.parametrize("key", SPELLED)
def test_every_spelling_is_read(tmp_path: Path, key: str) -> None:
    parameter = SPELLED[key]
    own = vector(table("mini").vectors[parameter])
    path = saved(tmp_path / "a.safetensors", BASIC | {key: own})
    adapter = read(path)
    assert list(adapter.layers) == [TO_K.name]
    for each in (adapter, merged_alone(adapter)):
        (found,) = shifted(each.shifts).items()
        assert found[0] == parameter
        assert torch.equal(found[1], own)
    kind = "normalisation vector" if "norm" in parameter.split(".")[-2] else "bias"
    assert adapter.warnings[0].startswith(f"It changes 1 {kind} too: ")
    accounted(path)


def test_a_bias_of_peft_is_scaled_as_its_factors_are(tmp_path: Path) -> None:
    own = vector(64)
    header = {"lora_adapter_metadata": '{"unet.lora_alpha": 6}'}
    tensors = PEFT | {f"{TO_OUT.name}.lora_B.bias": own}
    found = read(saved(tmp_path / "a.safetensors", tensors, header)).shifts[TO_OUT.name].bias
    torch.testing.assert_close(found, 6 / 4 * own)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {f"{FC1.kohya}.diff_b": torch.ones(128)},
            r"diff_b \(128,\), where the embedded mini",
        ),
        ({f"{FC1.kohya}.diff_b": torch.ones(2, 256)}, r"where a row of floating-point numbers"),
        ({f"{FC1.kohya}.diff_b": torch.ones(512).int()}, "of type I32, where a row of floating"),
        ({f"{FC1.kohya}.diff_b": torch.full((512,), torch.nan)}, "not finite numbers"),
        (
            {
                "lora_unet_conv_norm_out.w_norm": torch.ones(64),
                "diffusion_model.out.0.diff": torch.ones(64),
            },
            "has a layer twice",
        ),
        ({f"{TO_OUT.name}.lora_B.bias": torch.ones(64)}, "has lora_B.bias but no factors"),
    ],
)
def test_what_cannot_be_right_is_refused(
    tmp_path: Path, extra: dict[str, Tensor], message: str
) -> None:
    assert re.search(message, refusal(saved(tmp_path / "a.safetensors", BASIC | extra)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (f"{TO_K.kohya}.diff_b", "1 trained biases"),  # the base has none there
        (f"{TO_K.name}.bias", "1 trained biases"),
        ("lora_unet_nowhere_norm1.w_norm", "1 trained normalisation vectors"),
        ("lora_unet_conv_norm_out.lora_up.weight", "1 keys that the embedded mini"),
    ],
)
def test_vectors_without_a_place_are_refused(tmp_path: Path, key: str, message: str) -> None:
    path = saved(tmp_path / "a.safetensors", BASIC | {key: torch.ones(64)})
    assert f"a.safetensors has {message}" in refusal(path)
    adapter = read(path, leave_out=True)
    assert not adapter.shifts
    assert len(adapter.warnings) == 1 and f"Left out: {message}" in adapter.warnings[0]
    accounted(path)


@pytest.mark.parametrize("end", ["", "modules_to_save.default."])
def test_whole_vectors_are_read_against_the_base(tmp_path: Path, end: str) -> None:
    names = (f"{FC1.name}.{end}bias", f"unet.conv_norm_out.{end}weight")
    tensors = {names[0]: torch.arange(512.0), names[1]: torch.arange(64.0)}
    base = {
        f"{FC1.name}.bias": torch.ones(512),
        "unet.conv_norm_out.weight": torch.full((64,), 2.0),
    }
    path = saved(tmp_path / "a.safetensors", BASIC | tensors)
    shifts = read(path, weights=base.get).shifts
    bias, weight = shifts[FC1.name].bias, shifts["unet.conv_norm_out"].weight
    assert bias is not None and torch.equal(bias, torch.arange(512.0) - 1)
    assert weight is not None and torch.equal(weight, torch.arange(64.0) - 2)
    assert overview(path).needs_base
    assert "saved whole, whose change depends on the base" in refusal(path)


def test_a_file_of_vectors_alone_is_refused(tmp_path: Path) -> None:
    tensors = {
        f"{FC1.kohya}.diff_b": torch.ones(512),
        "lora_unet_conv_norm_out.w_norm": torch.ones(64),
    }
    text = refusal(saved(tmp_path / "a.safetensors", tensors))
    assert "has no layer's weights, only 1 × bias, 1 × normalisation" in text


# --- written --------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    """A layer with its bias, a bias alone, and a normalisation of which one vector is changed."""
    tensors = BASIC | kohya({CONV: factors(CONV)}, {CONV: 4.0})
    tensors |= {
        f"{CONV.kohya}.diff_b": vector(64, 1),
        f"{FC1.kohya}.diff_b": vector(512, 2),
        "lora_unet_down_blocks_0_resnets_0_norm1.b_norm": vector(64, 3),
    }
    return read(saved(tmp_path / "source.safetensors", tensors))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 1e-3)])
def test_the_full_file_holds_them(
    tmp_path: Path, adapter: Adapter, dtype: torch.dtype, limit: float
) -> None:
    path = tmp_path / "a.safetensors"
    written = write_full(adapter, path, dtype)
    found = read(path)
    changed = {name: own for name, own in found.layers.items() if own.up.any()}
    assert distance(replace(found, layers=changed), adapter) < limit
    expected = shifted(adapter.shifts)
    for name, own in shifted(found.shifts).items():
        torch.testing.assert_close(own, expected.get(name, 0 * own), rtol=0, atol=limit)
    assert "2 modules and 2 biases and 1 normalisation vector, " in written.sentence
    assert "keys fit A1111, Forge, ComfyUI and InvokeAI" in written.sentence
    once = load_file(path)
    write_full(found, path, dtype)
    for key, again in load_file(path).items():
        assert again.dtype == dtype
        if not key.endswith(".diff"):  # those are multiplied out of factors again
            assert torch.equal(again, once[key])


def test_what_a1111_takes_no_part_of_alone_is_written_beside_zeros(
    tmp_path: Path, adapter: Adapter
) -> None:
    """A bias beside a whole difference, and both vectors of a normalisation."""
    write_full(adapter, tmp_path / "a.safetensors", torch.float32)
    tensors = load_file(tmp_path / "a.safetensors")
    assert not tensors[f"{FC1.kohya}.diff"].any()
    assert not tensors["lora_unet_down_blocks_0_resnets_0_norm1.w_norm"].any()
    assert {key.rpartition(".")[2] for key in tensors} == {"diff", "diff_b", "w_norm", "b_norm"}


@pytest.mark.parametrize("write", [write_kohya, write_diffusers])
def test_the_others_leave_them_out_and_say_so(
    tmp_path: Path, adapter: Adapter, write: Callable[..., Written]
) -> None:
    """diffusers refuses a file that has any, as a whole: the very bytes are as without."""
    path, bare = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    written = write(adapter, path, torch.float16)
    plain = write(replace(adapter, shifts={}), bare, torch.float16)
    assert path.read_bytes() == bare.read_bytes()
    ending = "without 2 biases and 1 normalisation vector: only a full file holds these"
    assert written.sentence == f"{plain.sentence}; {ending} (merge --format full)"


def test_values_too_small_for_the_type_are_refused(tmp_path: Path, adapter: Adapter) -> None:
    shifts = {name: own.scaled(1e-9) for name, own in adapter.shifts.items()}
    with pytest.raises(MergeError, match=r"does not fit into float16 .*save as fp32"):
        write_full(replace(adapter, shifts=shifts), tmp_path / "a.safetensors", torch.float16)


def test_vectors_of_no_base_are_refused(adapter: Adapter) -> None:
    wrong = replace(adapter, shifts={FC1.name: VectorDelta(bias=torch.ones(3))})
    with pytest.raises(MergeError, match="fits no base model that can be written"):
        table_of(wrong)


# --- where they are found -------------------------------------------------------------------------

# Modules of Stable Diffusion 1.5 as LyCORIS spells them, and the programs that do not find them.
GOLDEN = {
    "lora_unet_down_blocks_2_resnets_1_norm1": ("unet.down_blocks.2.resnets.1.norm1", ()),
    "lora_unet_up_blocks_1_resnets_2_norm2": ("unet.up_blocks.1.resnets.2.norm2", ()),
    "lora_unet_mid_block_attentions_0_norm": ("unet.mid_block.attentions.0.norm", ()),
    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_norm3": (
        "unet.up_blocks.3.attentions.2.transformer_blocks.0.norm3",
        (),
    ),
    "lora_unet_conv_norm_out": ("unet.conv_norm_out", ("A1111",)),
    "lora_te_text_model_encoder_layers_11_layer_norm2": (
        f"{CLIP}.encoder.layers.11.layer_norm2",
        ("Forge", "ComfyUI"),
    ),
    "lora_te_text_model_final_layer_norm": (
        f"{CLIP}.final_layer_norm",
        ("A1111", "Forge", "ComfyUI"),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_normalisation_keys(name: str) -> None:
    sd15 = table("sd15")
    module, without = GOLDEN[name]
    assert {f"{module}.weight", f"{module}.bias"} <= sd15.vectors.keys()
    for program in PROGRAMS:
        expected = None if program.title in without else module
        assert program.names(sd15).get(name) == expected, program.title
        if program.title != "diffusers":
            keys = {f"{module}.weight": f"{name}.w_norm", f"{module}.bias": f"{name}.b_norm"}
            assert program.missing_count(keys, sd15) == 2 * (program.title in without)


def test_the_sentence_has_what_a_program_does_not_find(tmp_path: Path, adapter: Adapter) -> None:
    """Forge refuses a file with more than 12 keys that it does not know."""
    clip = [name for name in table("mini").vectors if ".layer_norm" in name]
    modules = dict.fromkeys(name.rpartition(".")[0] for name in clip)
    shifts = {m: VectorDelta(weight=vector(128), bias=vector(128)) for m in modules}
    few = dict(list(shifts.items())[:2])
    path = tmp_path / "a.safetensors"
    written = write_full(replace(adapter, shifts=few), path, torch.float32)
    assert written.programs == ("A1111", "InvokeAI")
    assert written.missing == {"Forge": 4, "ComfyUI": 4}
    assert "Forge ignores 4 keys of biases and normalisations" in written.sentence
    many = write_full(replace(adapter, shifts=shifts), path, torch.float32)
    assert len(vector_lengths(shifts)) == 16
    assert "Forge would refuse it because of 16 keys" in many.sentence
    assert "ComfyUI ignores 16 keys" in many.sentence
