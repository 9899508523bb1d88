"""Every bad file gives one MergeError that begins with its name, and never another exception."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merging.errors import MergeError
from merging.formats import read
from tests.formats.handmade import CONV, FC1, PROJ_IN, TO_K, factors, kohya, raw, saved

GOOD = kohya({TO_K: factors(TO_K)}, {TO_K: 4.0})
DOWN, UP, ALPHA = (f"{TO_K.kohya}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))


def refusal(path: Path) -> str:
    """The sentence with which a file is refused: one line that starts with the file's name."""
    with pytest.raises(MergeError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(path.name)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert len(text) < 600
    return text


def row(dtype: Any = "F16", shape: Any = (4,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def whole(path: Path) -> bytes:
    return saved(path.with_name("whole"), GOOD).read_bytes()


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.safetensors", b"0" * 64)


# What is wrong with the bytes, how to make it, and words of the answer.
DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing in it": (lambda p: p.write_bytes(b""), "is empty"),
    "three bytes": (lambda p: p.write_bytes(b"abc"), "not a safetensors"),
    "noise": (lambda p: p.write_bytes(bytes(range(200))), "not a safetensors"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(list(range(50)))), "pickle"),
    "torch file": (lambda p: torch.save({"a": torch.ones(9)}, p), "torch or zip"),
    "zip": (zipped, "torch or zip"),
    "web page": (lambda p: p.write_bytes(b"<!DOCTYPE html><html>sign in"), "web page"),
    "LFS pointer": (lambda p: p.write_bytes(b"version https://git-lfs.github.com"), "Git LFS"),
    "cut in the header": (lambda p: p.write_bytes(whole(p)[:100]), "cut short"),
    "cut in the tensors": (lambda p: p.write_bytes(whole(p)[:-1]), "cut short"),
    "bytes at the end": (lambda p: p.write_bytes(whole(p) + b"x"), "overlap or leave holes"),
    "length beyond the file": (lambda p: raw(p, {"a": row()}, bytes(8), 1 << 40), "cut short"),
    "length of 2⁶⁴": (lambda p: raw(p, {"a": row()}, bytes(8), (1 << 64) - 1), "cut short"),
    "huge header": (lambda p: raw(p, b'{"a":' + b" " * (9 << 20) + b"1}"), "header of 9 MiB"),
    "bad JSON": (lambda p: raw(p, b'{"a": [1, 2}', bytes(8)), "damaged header"),
    "bad UTF-8": (lambda p: raw(p, b'{"\xff": 1}', bytes(8)), "damaged header"),
    "deep JSON": (lambda p: raw(p, b'{"a":' + b"[" * 200_000), "damaged header"),
    "long number": (lambda p: raw(p, b'{"a":' + b"9" * 5000 + b"}"), "damaged header"),
    "key twice": (lambda p: raw(p, b'{"a":1,"a":1}'), "occurs twice"),
    "nested metadata": (lambda p: raw(p, {"__metadata__": {"a": {}}}), "not text"),
    "metadata a list": (lambda p: raw(p, {"__metadata__": [1]}), "damaged header"),
    "half a character": (lambda p: raw(p, rb'{"__metadata__":{"a":"\ud800"}}'), "damaged header"),
    "no tensors": (lambda p: raw(p, {"__metadata__": {"a": "b"}}), "holds no tensors"),
    "row a number": (lambda p: raw(p, {"a": 3}), "described wrongly"),
    "row without offsets": (lambda p: raw(p, {"a": {"dtype": "F16", "shape": [1]}}), "wrongly"),
    "three offsets": (lambda p: raw(p, {"a": row(offsets=(0, 4, 8))}, bytes(8)), "wrongly"),
    "fractional shape": (lambda p: raw(p, {"a": row(shape=(4.0,))}, bytes(8)), "no whole number"),
    "true as shape": (lambda p: raw(p, {"a": row(shape=(True,))}, bytes(8)), "no whole number"),
    "type a list": (lambda p: raw(p, {"a": row(dtype=["F16"])}, bytes(8)), "save the LoRA as"),
    "eight-bit floats": (
        lambda p: raw(p, {"a": row("F8_E4M3", (8,))}, bytes(8)),
        "F8_E4M3; save the LoRA as fp16",
    ),
    "shape bomb": (lambda p: raw(p, {"a": row(shape=(0, 10**12), offsets=(0, 0))}), "do harm"),
    "a thousand dimensions": (
        lambda p: raw(p, {"a": row(shape=(1,) * 1000, offsets=(0, 2))}, bytes(2)),
        "1000 dimensions",
    ),
    "negative shape": (lambda p: raw(p, {"a": row(shape=(-1, -4))}, bytes(8)), "do harm"),
    "negative offset": (lambda p: raw(p, {"a": row(offsets=(-8, 0))}, bytes(8)), "holes"),
    "size against shape": (lambda p: raw(p, {"a": row(shape=(5,))}, bytes(8)), "but 8 bytes"),
    "overlap": (
        lambda p: raw(p, {"a": row(), "b": row(offsets=(4, 12))}, bytes(12)),
        "overlap or leave holes",
    ),
    "hole": (lambda p: raw(p, {"a": row(), "b": row(offsets=(9, 17))}, bytes(17)), "holes"),
    "start with a hole": (lambda p: raw(p, {"a": row(offsets=(1, 9))}, bytes(9)), "holes"),
    "key with a line break": (lambda p: raw(p, {"../x\n": row()}, bytes(8)), "impossible name"),
    "long key": (lambda p: raw(p, {"k" * 300: row()}, bytes(8)), "impossible name"),
    "many tensors": (
        lambda p: raw(p, {f"k{n}": row(shape=(1,), offsets=(0, 2)) for n in range(5000)}),
        "5000 tensors",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(tmp_path: Path, case: str) -> None:
    make, words = DAMAGED[case]
    path = tmp_path / "bad one.safetensors"
    make(path)
    assert words in refusal(path)


def test_whole_models_are_refused_by_size_without_reading_them(tmp_path: Path) -> None:
    path = raw(tmp_path / "model.safetensors", {"a": row()})
    with path.open("r+b") as stream:
        stream.truncate(2 << 30)  # sparse
    assert "2048 MiB" in refusal(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.safetensors")


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_every_truncation_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(whole(path)[:length])
    refusal(path)


@pytest.mark.parametrize("seed", range(150))
def test_flipped_bytes_in_the_header_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    """Random damage either leaves a LoRA that can be read, or is refused in a sentence."""
    path = tmp_path / "bad.safetensors"
    content = bytearray(whole(path))
    generator = torch.Generator().manual_seed(seed)
    end = 8 + struct.unpack("<Q", content[:8])[0]
    for place in torch.randint(end, (3,), generator=generator).tolist():
        content[place] = int(torch.randint(256, (1,), generator=generator))
    path.write_bytes(content)
    try:
        read(path)
    except MergeError:
        refusal(path)


def tensors(*keys: str, shape: tuple[int, ...] = (4, 8)) -> dict[str, Tensor]:
    return {key: torch.ones(shape) for key in keys}


ATTN2 = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
# Files for something else, and the name that the answer must give it.
STRANGERS: dict[str, tuple[dict[str, Tensor], str]] = {
    "Flux (kohya)": (
        tensors("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight"),
        "made for Flux",
    ),
    "Flux (diffusers)": (
        tensors("transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"),
        "made for Flux",
    ),
    "SD 3": (tensors("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight"), "ion 3"),
    "Wan": (tensors("diffusion_model.blocks.0.self_attn.q.lora_A.weight"), "made for Wan"),
    "Lumina": (tensors("diffusion_model.layers.0.attention.qkv.lora_A.weight"), "for Lumina"),
    "AnimateDiff": (
        tensors("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.lora_A.weight"),
        "made for AnimateDiff",
    ),
    "SDXL by its second text encoder": (
        tensors("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"),
        "made for SDXL",
    ),
    "SDXL by depth": (
        tensors("unet.down_blocks.2.attentions.0.transformer_blocks.7.attn1.to_k.lora_A.weight"),
        "made for SDXL",
    ),
    "SDXL by width": (tensors(f"{ATTN2}.lora_down.weight", shape=(4, 2048)), "made for SDXL"),
    "SD 2 by width": (tensors(f"{ATTN2}.lora_down.weight", shape=(4, 1024)), "Diffusion 2 (it"),
    "SD 2 by width, old diffusers": (
        tensors(
            f"unet.{TO_K.name[5:].replace('to_k', 'processor.to_k_lora')}.down.weight",
            shape=(4, 1024),
        ),
        "made for Stable Diffusion 2",
    ),
    "SD 2 by its text encoder": (
        tensors(
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            shape=(4, 1024),
        ),
        "made for Stable Diffusion 2",
    ),
    "inpainting": (
        tensors("lora_unet_conv_in.lora_down.weight", shape=(4, 9, 3, 3)),
        "made for an inpainting model",
    ),
    "textual inversion": (tensors("emb_params", shape=(2, 768)), "a textual inversion"),
    "textual inversion (diffusers)": (tensors("<cat-toy>", shape=(1, 768)), "textual inversion"),
    "whole model": (tensors("model.diffusion_model.out.2.weight"), "a whole model"),
    "ControlNet": (tensors("control_model.input_blocks.0.0.weight"), "a ControlNet"),
    "bare weights": (tensors("conv_in.weight", "conv_out.weight"), "holds no LoRA weights"),
    "LoHa": (tensors(f"{ATTN2}.hada_w1_a"), "a LoHa"),
    "LoKr": (tensors(f"{ATTN2}.lokr_w1"), "a LoKr"),
    "DoRA (LyCORIS)": (GOOD | tensors(f"{TO_K.kohya}.dora_scale"), "a DoRA"),
    "DoRA (PEFT)": (tensors(f"{TO_K.name}.lora_magnitude_vector"), "a DoRA"),
    "Tucker": (GOOD | tensors(f"{CONV.kohya}.lora_mid.weight"), "lora_mid"),
    "full difference": (GOOD | tensors(f"{TO_K.kohya}.diff"), "(diff)"),
    "difference of a bias": (GOOD | tensors(f"{FC1.kohya}.diff_b"), "(diff)"),
    "norm": (GOOD | tensors("lora_unet_conv_norm_out.w_norm"), "(norm)"),
    "IA³": (tensors(f"{TO_K.kohya}.weight", f"{TO_K.kohya}.on_input"), "an IA³"),
    "OFT": (tensors("oft_unet_conv_in.oft_blocks"), "an OFT"),
    "GLoRA": (tensors(f"{TO_K.kohya}.a1.weight", f"{TO_K.kohya}.b1.weight"), "a GLoRA"),
    "bundled embeddings": (GOOD | tensors("bundle_emb.sks.emb"), "bundle_emb"),
    "bias": (tensors(f"{TO_K.name}.lora_B.bias"), "trained biases"),
    "bare PEFT": (tensors(f"base_model.model.{TO_K.name[5:]}.lora_A.weight"), "a bare PEFT file"),
    "cloneofsimo": (tensors("unet:0:up", "unet:0:down"), "cloneofsimo"),
    "ldm names": (
        tensors("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_k.lora_down.weight"),
        "ldm layer names",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_strangers_are_refused_by_name(tmp_path: Path, case: str) -> None:
    content, words = STRANGERS[case]
    assert words in refusal(saved(tmp_path / "other.safetensors", content))


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """The good file with tensors replaced, by role; None takes one away."""
    keys = {"down": DOWN, "up": UP, "alpha": ALPHA}
    new = GOOD | {keys[role]: value for role, value in changes.items() if value is not None}
    gone = {keys[role] for role, value in changes.items() if value is None}
    return {key: value for key, value in new.items() if key not in gone}


NAN = torch.full((4, 128), float("nan"))
# LoRAs that are not whole, and words of the answer.
BROKEN: dict[str, tuple[dict[str, Tensor], str]] = {
    "no up": (changed(up=None), f"layer {TO_K.name} has down but no up"),
    "no down": (changed(down=None), f"layer {TO_K.name} has up but no down"),
    "alpha alone": (changed(up=None, down=None), "changes nothing"),
    "ranks differ": (
        changed(down=torch.ones(8, 128)),
        f"layer {TO_K.name} has up (64, 4) but down (8, 128)",
    ),
    "rank bomb": (
        changed(down=torch.ones(2000, 128), up=torch.ones(64, 2000)),
        "same rank, at most 1024",
    ),
    "input too wide": (changed(down=torch.ones(4, 129)), "has down (4, 129)"),
    "output too wide": (changed(up=torch.ones(65, 4)), "has up (65, 4)"),
    "whole numbers": (changed(up=torch.ones(64, 4, dtype=torch.int8)), "of type I8"),
    "one dimension": (changed(up=torch.ones(64)), "has up (64,)"),
    "alpha a vector": (changed(alpha=torch.ones(4)), "has alpha (4,)"),
    "NaN": (changed(down=NAN), f"layer {TO_K.name} has values that are not finite"),
    "infinity": (changed(up=torch.full((64, 4), float("inf"))), "not finite"),
    "NaN alpha": (changed(alpha=torch.tensor(float("nan"))), "not finite"),
    "untrained": (changed(up=torch.zeros(64, 4)), "changes nothing"),
    "flattened kernel": (
        kohya({CONV: factors(CONV)}, {})
        | {f"{CONV.kohya}.lora_down.weight": torch.ones(4, 64 * 9)},
        f"layer {CONV.name} has down (4, 576)",
    ),
    "kernel for a pointwise layer": (
        {f"{PROJ_IN.kohya}.lora_down.weight": torch.ones(4, 64, 3, 3)},
        f"layer {PROJ_IN.name} has down (4, 64, 3, 3)",
    ),
    "misspelt layer": (
        GOOD | tensors(DOWN.replace("to_k", "to_kk")),
        f"such as {DOWN.replace('to_k', 'to_kk')}, the nearest is {DOWN}",
    ),
    "layer in two spellings": (
        GOOD | {f"{TO_K.name}.lora_A.weight": GOOD[DOWN].clone()},
        "names a layer twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_loras(tmp_path: Path, case: str) -> None:
    content, words = BROKEN[case]
    assert words in refusal(saved(tmp_path / "bad.safetensors", content))


def test_harmless_buffers_are_let_pass(tmp_path: Path) -> None:
    buffer = {"text_encoder.text_model.embeddings.position_ids": torch.arange(77)[None]}
    assert list(read(saved(tmp_path / "a.safetensors", GOOD | buffer)).layers) == [TO_K.name]


def test_the_user_s_name_for_the_file_is_the_one_in_the_sentence(tmp_path: Path) -> None:
    path = raw(tmp_path / "upload-17", {"__metadata__": {}})
    with pytest.raises(MergeError, match=r"^cat\.safetensors holds no tensors"):
        read(path, name="cat.safetensors")


def test_names_of_unreadable_bytes_can_be_shown(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.safetensors", GOOD)
    assert read(path, name="caf\udce9.safetensors").name == "caf?"


def test_metadata_is_not_parsed_as_anything_but_text(tmp_path: Path) -> None:
    header = {"ss_tag_frequency": json.dumps({"a": {"<script>": 1}})}
    assert read(saved(tmp_path / "a.safetensors", GOOD, header)).trigger == "<script>"
