"""Files of every family, made by hand, give the changes that their definitions say."""

from __future__ import annotations

import hashlib
import json
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats import read, table
from tests.merging.formats.handmade import (
    ATTENTION,
    CONV,
    FC1,
    PROJ_IN,
    Q_PROJ,
    SAMPLES,
    TO_K,
    TO_OUT,
    Factors,
    Sample,
    factors,
    kohya,
    merged_alone,
    saved,
)

PARTS = {sample: factors(sample) for sample in SAMPLES}


def check(adapter: Adapter, expected: dict[Sample, torch.Tensor]) -> None:
    """Every sample's change is the expected one, merged or not, to float32's rounding."""
    for each in (adapter, merged_alone(adapter)):
        assert each.layers.keys() == {sample.name for sample in expected}
        for sample, delta in expected.items():
            found = each.layers[sample.name].delta()
            assert_close(found.double(), delta, rtol=1e-5, atol=1e-7)


def products(*samples: Sample, scale: float = 1.0) -> dict[Sample, torch.Tensor]:
    return {sample: scale * PARTS[sample].product() for sample in samples}


def test_kohya_with_alpha_other_than_rank(tmp_path: Path) -> None:
    tensors = kohya(PARTS, dict.fromkeys(SAMPLES, 2.0))
    adapter = read(saved(tmp_path / "cat.safetensors", tensors))
    check(adapter, products(*SAMPLES, scale=2 / 4))
    assert (adapter.name, adapter.base, adapter.family) == ("cat", "mini", "kohya")
    assert adapter.warnings == ()
    names = [name for name in table("mini").shapes if name in adapter.layers]
    assert list(adapter.layers) == names  # in forward order


def test_mixed_ranks_and_alphas(tmp_path: Path) -> None:
    ranks = {TO_K: 1, CONV: 3, Q_PROJ: 16}
    parts = {sample: factors(sample, rank) for sample, rank in ranks.items()}
    alphas = {TO_K: 0.5, CONV: 8.0, Q_PROJ: 16.0}
    adapter = read(saved(tmp_path / "a.safetensors", kohya(parts, alphas)))
    check(adapter, {s: alphas[s] / ranks[s] * parts[s].product() for s in ranks})
    assert [adapter.layers[sample.name].rank for sample in ranks] == [1, 3, 16]


@pytest.mark.parametrize(
    ("alpha", "scale"),
    [
        (torch.tensor(2, dtype=torch.int64), 0.5),
        (torch.tensor([2.0]), 0.5),
        (torch.tensor(2.0, dtype=torch.float16), 0.5),
        (torch.tensor(2.0, dtype=torch.bfloat16), 0.5),
        (torch.tensor(0.0), 1.0),
        (torch.tensor(-4.0), -1.0),
    ],
)
def test_alpha_in_every_form(tmp_path: Path, alpha: torch.Tensor, scale: float) -> None:
    tensors = kohya({TO_K: PARTS[TO_K]}, {TO_K: alpha})
    check(read(saved(tmp_path / "a.safetensors", tensors)), products(TO_K, scale=scale))


def test_missing_alpha_is_the_rank_with_a_warning(tmp_path: Path) -> None:
    adapter = read(saved(tmp_path / "a.safetensors", kohya(PARTS, {TO_K: 4.0})))
    check(adapter, products(*SAMPLES))
    assert adapter.warnings == ("7 layers have no alpha; their rank is used in its place.",)


def test_stray_alpha_is_left_out_with_a_warning(tmp_path: Path) -> None:
    tensors = kohya({TO_K: PARTS[TO_K]}, {TO_K: 4.0})
    tensors[f"{FC1.kohya}.alpha"] = torch.tensor(4.0)
    adapter = read(saved(tmp_path / "a.safetensors", tensors))
    check(adapter, products(TO_K))
    assert adapter.warnings == (f"1 alphas without weights left out, such as {FC1.kohya}.alpha.",)


def test_pointwise_layers_in_two_and_in_four_dimensions(tmp_path: Path) -> None:
    conv, linear = PARTS[PROJ_IN], PARTS[TO_K]
    parts = {
        PROJ_IN: Factors(conv.up.flatten(1), conv.down.flatten(1)),
        TO_K: Factors(linear.up[..., None, None], linear.down[..., None, None]),
    }
    adapter = read(saved(tmp_path / "a.safetensors", kohya(parts, dict.fromkeys(parts, 4.0))))
    check(adapter, products(PROJ_IN, TO_K))


def test_spatial_convolution_is_flattened_channel_by_channel(tmp_path: Path) -> None:
    tensors = kohya({CONV: PARTS[CONV]}, {CONV: 4.0})
    layer = read(saved(tmp_path / "a.safetensors", tensors)).layers[CONV.name]
    assert layer.down.shape == (4, 64 * 9)
    up, down = PARTS[CONV].up.double(), PARTS[CONV].down.double()
    kernel = torch.einsum("orxy,rikl->oikl", up, down)  # what conv(conv(x, down), up) amounts to
    assert_close(layer.delta().double().view(64, 64, 3, 3), kernel, rtol=1e-5, atol=1e-7)


def test_lora_te1_is_the_text_encoder_of_sd1(tmp_path: Path) -> None:
    tensors = kohya({Q_PROJ: PARTS[Q_PROJ]}, {Q_PROJ: 4.0})
    tensors = {key.replace("lora_te_", "lora_te1_"): value for key, value in tensors.items()}
    check(read(saved(tmp_path / "a.safetensors", tensors)), products(Q_PROJ))


def peft(samples: tuple[Sample, ...], prefix: str = "") -> dict[str, torch.Tensor]:
    tensors = {}
    for sample in samples:
        name = sample.name.replace("text_encoder.text_model.", prefix or "text_encoder.text_model.")
        tensors[f"{name}.lora_A.weight"] = PARTS[sample].down
        tensors[f"{name}.lora_B.weight"] = PARTS[sample].up
    return tensors


@pytest.mark.parametrize("prefix", ["", "text_encoder."])
def test_peft_without_settings_has_scale_one(tmp_path: Path, prefix: str) -> None:
    adapter = read(saved(tmp_path / "a.safetensors", peft(SAMPLES, prefix)))
    check(adapter, products(*SAMPLES))
    assert (adapter.family, adapter.warnings) == ("diffusers (PEFT)", ())


def test_peft_settings_in_the_header(tmp_path: Path) -> None:
    settings = {
        "unet.r": 4,
        "unet.lora_alpha": 8,
        "unet.alpha_pattern": {"attn1.to_out.0": 2, "^down_blocks.0.resnets.0.conv1": 1},
        "text_encoder.lora_alpha": 6,
        "text_encoder.use_rslora": True,
    }
    header = {"lora_adapter_metadata": json.dumps(settings)}
    adapter = read(saved(tmp_path / "a.safetensors", peft((TO_K, TO_OUT, CONV, Q_PROJ)), header))
    scales = {TO_K: 8 / 4, TO_OUT: 2 / 4, CONV: 1 / 4, Q_PROJ: 6 / sqrt(4)}
    check(adapter, {s: scale * PARTS[s].product() for s, scale in scales.items()})


@pytest.mark.parametrize("level", ["", "text_model."])
def test_a_whole_name_of_the_text_encoder_in_the_settings(tmp_path: Path, level: str) -> None:
    """With and without the level that transformers 5 has dropped."""
    pattern = {f"^{level}encoder.layers.1.self_attn.q_proj": 3, "^1.mlp.fc1": 9}
    settings = {"text_encoder.lora_alpha": 2, "text_encoder.alpha_pattern": pattern}
    header = {"lora_adapter_metadata": json.dumps(settings)}
    adapter = read(saved(tmp_path / "a.safetensors", peft((Q_PROJ, FC1)), header))
    scales = {Q_PROJ: 3 / 4, FC1: 2 / 4}
    check(adapter, {s: scale * PARTS[s].product() for s, scale in scales.items()})


@pytest.mark.parametrize(
    "settings",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"unet.lora_alpha": "much"}',
        '{"unet.lora_alpha": NaN}',
        '{"unet.alpha_pattern": ["to_k"]}',
        '{"unet.alpha_pattern": {"(?R)": 3}}',
        '{"unet.use_dora": true}',
        '{"unet.init_lora_weights": "pissa_niter_4"}',
        json.dumps({"unet.alpha_pattern": dict.fromkeys(map(str, range(1001)), 1)}),
    ],
)
def test_unusable_peft_settings_are_refused(tmp_path: Path, settings: str) -> None:
    header = {"lora_adapter_metadata": settings}
    with pytest.raises(MergeError, match=r"^odd\.safetensors"):
        read(saved(tmp_path / "odd.safetensors", peft((TO_K,)), header))


def old(spelling: str) -> dict[str, torch.Tensor]:
    """Attention layers in one of the spellings of 2023."""
    tensors = {}
    for sample in ATTENTION:
        name = {
            "processor": sample.old,
            "bare": sample.old.removeprefix("unet."),
            "without processor": sample.old.replace(".processor", ""),
            "lora": f"{sample.name}.lora",
            "linear layer": f"{sample.name}.lora_linear_layer",
        }[spelling]
        tensors[f"{name}.down.weight"] = PARTS[sample].down
        tensors[f"{name}.up.weight"] = PARTS[sample].up
    return tensors


@pytest.mark.parametrize(
    "spelling", ["processor", "bare", "without processor", "lora", "linear layer"]
)
def test_old_diffusers(tmp_path: Path, spelling: str) -> None:
    adapter = read(saved(tmp_path / "a.safetensors", old(spelling)))
    check(adapter, products(*ATTENTION))
    assert (adapter.family, adapter.base) == ("diffusers (attention processors)", "mini")
    assert adapter.warnings == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_come_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    part = factors(TO_K, dtype=dtype)
    layer = read(saved(tmp_path / "a.safetensors", kohya({TO_K: part}, {TO_K: 4.0}))).layers[
        TO_K.name
    ]
    assert layer.up.dtype == layer.down.dtype == torch.float32
    assert torch.equal(layer.up, part.up.float())
    assert torch.equal(layer.down, part.down.float())


def test_file_facts(tmp_path: Path) -> None:
    header = {"ss_network_dim": "4", "note": "größer"}
    path = saved(tmp_path / "upload-17.tmp", kohya(PARTS, dict.fromkeys(SAMPLES, 4.0)), header)
    adapter = read(path, name="My Cat v1.5.safetensors")
    assert adapter.name == "My Cat v1.5"
    assert adapter.metadata == header
    assert adapter.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("header", "trigger"),
    [
        ({}, ""),
        ({"modelspec.trigger_phrase": " sks cat ", "instance_prompt": "other"}, "sks cat"),
        ({"instance_prompt": "a photo of sks cat"}, "a photo of sks cat"),
        ({"ss_tag_frequency": '{"10_sks cat": {"sks cat": 20}}'}, "sks cat"),
        ({"ss_tag_frequency": '{"a": {"sks cat": 20}, "b": {"sks cat": 3}}'}, "sks cat"),
        ({"ss_tag_frequency": '{"a": {"sks": 20, "cat": 20}}'}, ""),
        ({"ss_tag_frequency": '{"a": 3}'}, ""),
        ({"ss_tag_frequency": "None"}, ""),
        ({"ss_tag_frequency": "[[]]"}, ""),
        ({"trained_words": '["sks cat", "fur"]'}, "sks cat"),
        ({"trained_words": "sks cat, fur"}, "sks cat, fur"),
        ({"trained_words": "[]", "trainedWords": '["sks cat"]'}, "sks cat"),
        ({"trained_words": '{"a": ["sks cat"], "b": ["mug"]}'}, "sks cat"),
        ({"activation text": "sks cat"}, "sks cat"),
    ],
)
def test_trigger(tmp_path: Path, header: dict[str, str], trigger: str) -> None:
    tensors = kohya({TO_K: PARTS[TO_K]}, {TO_K: 4.0})
    assert read(saved(tmp_path / "a.safetensors", tensors, header)).trigger == trigger


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("cat", {"ss_base_model_version": "sd_v2_v"}, "made for sd_v2_v"),
        ("cat", {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "made for stable"),
        ("cat", {"ss_v2": "True"}, "made for sd_v2"),
        ("LCM_LoRA", {}, "LCM, Hyper, Turbo"),
        ("AnimateLCM_sd15_t2v_lora", {}, "LCM, Hyper, Turbo"),
        ("cat", {"ss_output_name": "Hyper-SD15-8steps"}, "LCM, Hyper, Turbo"),
        ("LCM_LoRA", {}, "load it beside the merge, with its own sampler"),
        ("ip-adapter-faceid_sd15_lora", {}, "belongs to an IP-Adapter"),
        ("cat", {"modelspec.prediction_type": "v"}, "predicts velocities (v-prediction)"),
        ("cat", {"ss_v_parameterization": "True"}, "predicts velocities (v-prediction)"),
        ("cat", {"ss_zero_terminal_snr": "True"}, "zero terminal SNR"),
        ("cat", {"ss_sd_model_name": "sd-v1-5-Inpainting.ckpt"}, "model (sd-v1-5-Inpainting.ckpt)"),
        ("cat", {"iteris.carried": '{"to": {"name": "mine"}}'}, "was carried to the base mine"),
        ("cat", {"ss_clip_skip": "2"}, "trained with clip skip 2: draw with the same"),
    ],
)
def test_doubts_are_warnings(
    tmp_path: Path, name: str, header: dict[str, str], message: str
) -> None:
    tensors = kohya({TO_K: PARTS[TO_K]}, {TO_K: 4.0})
    adapter = read(saved(tmp_path / f"{name}.safetensors", tensors, header))
    assert len(adapter.warnings) == 1
    assert message in adapter.warnings[0]


def test_no_doubt_about_a_welcome_cat(tmp_path: Path) -> None:
    tensors = kohya({TO_K: PARTS[TO_K]}, {TO_K: 4.0})
    header = {"ss_base_model_version": "sd_v1", "modelspec.title": "hypervelociraptor"}
    header["modelspec.prediction_type"] = "epsilon"
    header |= {"ss_zero_terminal_snr": "False", "ss_sd_model_name": "painted.safetensors"}
    header["iteris.carried"] = '{"to": []}'
    assert read(saved(tmp_path / "a.safetensors", tensors, header)).warnings == ()


def test_sd15_and_mini_are_distinguished_by_shapes(tmp_path: Path) -> None:
    sample = Sample(TO_K.name, TO_K.kohya, "", (320, 768))
    tensors = kohya({sample: factors(sample)}, {sample: 4.0})
    path = saved(tmp_path / "a.safetensors", tensors)
    assert read(path).base == "sd15"
    assert read(path, table("sd15")).base == "sd15"
    with pytest.raises(MergeError, match=r"a\.safetensors was made for Stable Diffusion 1\.5, but"):
        read(path, table("mini"))
