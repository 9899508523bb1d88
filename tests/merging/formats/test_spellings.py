"""Key names of all programs, keys beside the weights, and PEFT's settings in another file."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.formats import overview, read
from tests.merging.formats.handmade import (
    COMFY,
    CONV,
    FC1,
    LDM,
    TO_K,
    TO_OUT,
    Sample,
    accounted,
    factors,
    kohya,
    merged_alone,
    raw,
    refusal,
    saved,
)


def check(adapter: Adapter, samples: dict[Sample, float]) -> None:
    """Every sample's change is its factors' product times a scale, merged or not."""
    for each in (adapter, merged_alone(adapter)):
        assert each.layers.keys() == {sample.name for sample in samples}
        for sample, scale in samples.items():
            found = each.layers[sample.name].delta().double()
            assert (found - scale * factors(sample).product()).norm() < 1e-6 * found.norm()


def test_names_of_the_original_code_with_underscores(tmp_path: Path) -> None:
    renamed = {s: f"lora_unet_{name.replace('.', '_')}" for s, name in LDM.items()}
    tensors: dict[str, Tensor] = {}
    for sample, stem in renamed.items():
        tensors[f"{stem}.lora_down.weight"] = factors(sample).down
        tensors[f"{stem}.lora_up.weight"] = factors(sample).up
        tensors[f"{stem}.alpha"] = torch.tensor(1.0)
    adapter = read(saved(tmp_path / "a.safetensors", tensors))
    check(adapter, dict.fromkeys(LDM, 1 / 4))
    assert adapter.family == "kohya"


def test_comfyui_s_extraction(tmp_path: Path) -> None:
    """Factors without alpha, whole differences where it found them smaller, and biases."""
    tensors: dict[str, Tensor] = {}
    for sample, stem in COMFY.items():
        tensors[f"{stem}.lora_down.weight"] = factors(sample).down
        tensors[f"{stem}.lora_up.weight"] = factors(sample).up
    del tensors[f"{COMFY[FC1]}.lora_down.weight"], tensors[f"{COMFY[FC1]}.lora_up.weight"]
    tensors[f"{COMFY[FC1]}.diff"] = factors(FC1).product().float()
    tensors[f"{COMFY[FC1]}.diff_b"] = torch.ones(512)
    tensors["diffusion_model.input_blocks.1.0.in_layers.0.diff"] = torch.ones(64)
    tensors["diffusion_model.input_blocks.1.1.norm.diff"] = torch.ones(64)
    equal = "text_encoders.clip_l.transformer.text_projection"  # in both models it compared
    tensors[f"{equal}.lora_up.weight"] = -torch.zeros(128, 4)
    tensors[f"{equal}.lora_down.weight"] = torch.ones(4, 128)
    path = saved(tmp_path / "a.safetensors", tensors)
    adapter = read(path)
    check(adapter, dict.fromkeys(COMFY, 1.0))
    assert adapter.family == "ComfyUI, LoRA and full difference"
    warnings = " ".join(adapter.warnings)
    assert "It changes 1 bias and 2 normalisation vectors too" in warnings
    assert adapter.shifts.keys() == {
        FC1.name,
        "unet.down_blocks.0.resnets.0.norm1",
        "unet.down_blocks.0.attentions.0.norm",
    }
    assert (
        f"2 keys that the embedded mini model does not have left out, such as {equal}" in warnings
    )
    assert "7 layers have no alpha" in warnings
    accounted(path)


def peft(prefix: str, *samples: Sample) -> dict[str, Tensor]:
    """PEFT's own names: without the part, behind its wrapper."""
    tensors: dict[str, Tensor] = {}
    for sample in samples:
        stem = prefix + sample.name.partition(".")[2]
        tensors[f"{stem}.lora_A.weight"] = factors(sample).down
        tensors[f"{stem}.lora_B.weight"] = factors(sample).up
    return tensors


CONFIG = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 8,
    "rank_pattern": {"attn2.to_k": 4},
    "alpha_pattern": {"attn2.to_k": 2, "resnets.0.conv1": 16},
    "use_rslora": False,
    "use_dora": False,
}


@pytest.mark.parametrize("rslora", [False, True])
def test_raw_peft_folder(tmp_path: Path, rslora: bool) -> None:
    path = saved(
        tmp_path / "adapter_model.safetensors", peft("base_model.model.", TO_K, TO_OUT, CONV)
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG | {"use_rslora": rslora}))
    root = sqrt(4) if rslora else 4
    check(read(path), {TO_K: 2 / root, TO_OUT: 8 / root, CONV: 16 / root})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a bare PEFT file, whose alpha is in adapter_config.json"),
        ("{", "adapter_config.json is not a JSON object"),
        ("[]", "adapter_config.json is not a JSON object"),
        (
            json.dumps({"peft_type": "ADALORA"}),
            "says ADALORA, not LORA, LOHA, LOKR, OFT, VERA, FOURIERFT, HRA, BOFT, SHIRA, VBLORA or "
            "UNILORA",
        ),
        (json.dumps({"alpha_pattern": [1]}), "an alpha_pattern that is not a JSON object"),
        (json.dumps({"use_dora": True}), "says DoRA, but the file has no"),
        (json.dumps({"init_lora_weights": "olora"}), "began with olora, on a changed base model"),
        (json.dumps({"lora_alpha": "much"}), f"layer {TO_K.name} has no usable alpha"),
    ],
)
def test_raw_peft_without_usable_settings(tmp_path: Path, content: Any, message: str) -> None:
    path = saved(tmp_path / "adapter_model.safetensors", peft("base_model.model.", TO_K))
    if content is not None:
        (tmp_path / "adapter_config.json").write_text(content)
    assert message in refusal(path)


@pytest.mark.parametrize("prefix", ["", "unet.base_model.model."])
def test_other_prefixes_of_peft(tmp_path: Path, prefix: str) -> None:
    check(read(saved(tmp_path / "a.safetensors", peft(prefix, TO_K, CONV))), {TO_K: 1, CONV: 1})


# --- beside the weights ---------------------------------------------------------------------------

BASIC = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {
                "bundle_emb.sks cat.string_to_param.*": (3, 128),
                "bundle_emb.sks cat.string_to_token.*": (),
                "bundle_emb.v1.5 mug.string_to_param.*": (2, 128),
            },
            "inside the file: sks cat (3 vectors), v1.5 mug (2 vectors); they are used",
        ),
        ({"bundle_emb.猫娘.string_to_param.*": (2, 128)}, "inside the file: 猫娘 (2 vectors)"),
        ({"bundle_emb.mug.clip_l": (2, 128)}, "inside the file: mug (2 vectors)"),
        ({"emb_params": (4, 128)}, "inside the file: one with the name of the file (4 vectors)"),
        ({"<sks>": (1, 128)}, "inside the file: <sks> (1 vectors)"),
    ],
)
def test_textual_inversions_inside_are_read(
    tmp_path: Path, extra: dict[str, tuple[int, ...]], message: str
) -> None:
    path = saved(
        tmp_path / "a.safetensors",
        BASIC | {key: torch.ones(shape) for key, shape in extra.items()},
    )
    adapter = read(path)
    check(adapter, {TO_K: 1.0})
    assert len(adapter.warnings) == 1
    assert message in adapter.warnings[0]
    accounted(path)


LOST = {
    f"{TO_K.kohya}x.lora_down.weight": (
        (4, 8),
        "1 keys that the embedded mini model does not have, such as lora_unet_",
    ),
    "bundle_emb.mug.clip_l_out": (
        (2, 128),
        "1 vectors for the text encoder's output, such as bundle_emb.mug.clip_l_out",
    ),
    "<sks>": ((2, 768), "textual inversions, <sks>, whose vectors are not 128 wide"),
    "lora_unet_time_embedding_cond_proj.lora_up.weight": (
        (4, 256),
        "1 keys that the embedded mini model does not have, such as lora_unet_time_embedding_cond",
    ),
}


@pytest.mark.parametrize("key", LOST)
def test_what_would_be_lost_is_refused(tmp_path: Path, key: str) -> None:
    """Unless the user says so: convert --leave-out."""
    shape, message = LOST[key]
    path = saved(tmp_path / "a.safetensors", BASIC | {key: torch.ones(shape)})
    assert f"a.safetensors has {message}" in refusal(path)
    assert overview(path).refusal == overview(path).warnings[0] == refusal(path)
    adapter = read(path, leave_out=True)
    check(adapter, {TO_K: 1.0})
    assert adapter.warnings[0].startswith(f"Left out: {message}")
    accounted(path)


def test_a_bundle_without_a_lora_is_a_textual_inversion(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", {"bundle_emb.sks.string_to_param.*": torch.ones(1, 8)})
    assert "is a textual inversion, not a LoRA" in refusal(path)


def test_the_settings_beside_a_plain_file_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    check(read(saved(tmp_path / "a.safetensors", BASIC)), {TO_K: 1.0})


def test_distilled_by_its_layers(tmp_path: Path) -> None:
    extra = {"lora_unet_time_embedding_cond_proj.lora_down.weight": torch.ones(4, 256)}
    warnings = overview(saved(tmp_path / "a.safetensors", BASIC | extra)).warnings
    assert any("By its layers it changes how the model samples" in text for text in warnings)


@pytest.mark.parametrize(
    "name", ["sd-turbo", "HyperSD_8steps", "my_dpo", "DMD2", "lcm-lora", "Lightning_4step"]
)
def test_distilled_by_its_name(tmp_path: Path, name: str) -> None:
    warnings = read(saved(tmp_path / f"{name}.safetensors", BASIC)).warnings
    assert any("By its name it changes how the model samples" in text for text in warnings)


def test_no_settings_are_unknown_in_peft(tmp_path: Path) -> None:
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2})}
    path = saved(tmp_path / "a.safetensors", peft("base_model.model.", TO_K), header)
    check(read(path), {TO_K: 2 / 4})
    patterns = {r".*attn2\.to_[kv]": 6, "(a+)+$": 3}
    header = {"lora_adapter_metadata": json.dumps({"unet.alpha_pattern": patterns})}
    check(
        read(saved(tmp_path / "b.safetensors", peft("base_model.model.", TO_K), header)),
        {TO_K: 6 / 4},
    )


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(.+)(.+)(.+)(.+)(.+)(.+)(.+)\3\4\5\6\7k", "takes too long"),
        ("((a{60000}){60000}){60000}", "is too complex"),
        ("(?R)", "is too complex"),
        ("(", "is no regular expression"),
        ("a" * 501 + "+", "is too complex"),
    ],
)
def test_patterns_that_could_hang_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    header = {"lora_adapter_metadata": json.dumps({"unet.alpha_pattern": {pattern: 3}})}
    path = saved(tmp_path / "a.safetensors", peft("base_model.model.", TO_K), header)
    assert message in refusal(path)


def test_vectors_of_the_output_are_no_words(tmp_path: Path) -> None:
    """OneTrainer bundles both; the first are added to the text encoder's output."""
    extra = {
        "bundle_emb.mug.clip_l_out": torch.ones(2, 128),
        "bundle_emb.mug.clip_l": torch.zeros(2, 128),
    }
    adapter = read(saved(tmp_path / "a.safetensors", BASIC | extra), leave_out=True)
    [embedding] = adapter.embeddings
    assert (embedding.word, adapter.trigger) == ("mug", "mug")
    assert not embedding.vectors.any()
    del extra["bundle_emb.mug.clip_l"]
    alone = read(saved(tmp_path / "b.safetensors", BASIC | extra), leave_out=True)
    assert (alone.embeddings, alone.trigger) == ((), "")


def test_a_header_of_many_captions(tmp_path: Path) -> None:
    """sd-scripts writes how often every caption occurs (its issue 1380)."""
    captions = {f"picture {i} of a cat": 1 for i in range(400_000)}
    header = {"ss_tag_frequency": json.dumps({"10_cat": captions})}
    path = saved(tmp_path / "a.safetensors", BASIC, header)
    assert path.stat().st_size > 10_000_000
    check(read(path), {TO_K: 1.0})


def test_a_large_header_of_anything_else_is_refused(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", b'{"a":[' + b"[]," * (3 << 20) + b"0]}")
    assert "a header with more than 8 MiB beside its texts" in refusal(path)
