"""LoRA files made from raw tensors, by the definition of each family and by nothing of ours.

The spellings of the sample layers are written out, as they stand in files of sd-scripts and of
diffusers' training scripts.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.engine import merge
from merging.errors import MergeError
from merging.formats import read, table
from merging.formats.key_names.kohya import key_stems
from merging.formats.layer_tables import flat
from merging.formats.match import best_match
from merging.formats.tensors import opened
from merging.request import MergeRequest, Source


@dataclass(frozen=True)
class Sample:
    """One layer of the mini base, in every spelling."""

    name: str
    kohya: str
    old: str  # attention processors, or "" where these files never had the layer
    shape: tuple[int, ...]


BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
FLAT_BLOCK = "down_blocks_0_attentions_0_transformer_blocks_0"
CLIP = "text_model.encoder.layers.1"
TO_K = Sample(
    f"unet.{BLOCK}.attn2.to_k",
    f"lora_unet_{FLAT_BLOCK}_attn2_to_k",
    f"unet.{BLOCK}.attn2.processor.to_k_lora",
    (64, 128),
)
TO_OUT = Sample(
    f"unet.{BLOCK}.attn1.to_out.0",
    f"lora_unet_{FLAT_BLOCK}_attn1_to_out_0",
    f"unet.{BLOCK}.attn1.processor.to_out_lora",
    (64, 64),
)
Q_PROJ = Sample(
    f"text_encoder.{CLIP}.self_attn.q_proj",
    "lora_te_text_model_encoder_layers_1_self_attn_q_proj",
    f"text_encoder.{CLIP}.self_attn.to_q_lora",
    (128, 128),
)
FC1 = Sample(
    f"text_encoder.{CLIP}.mlp.fc1", "lora_te_text_model_encoder_layers_1_mlp_fc1", "", (512, 128)
)
FF = Sample(f"unet.{BLOCK}.ff.net.0.proj", f"lora_unet_{FLAT_BLOCK}_ff_net_0_proj", "", (512, 64))
PROJ_IN = Sample(
    "unet.down_blocks.0.attentions.0.proj_in",
    "lora_unet_down_blocks_0_attentions_0_proj_in",
    "",
    (64, 64, 1, 1),
)
CONV = Sample(
    "unet.down_blocks.0.resnets.0.conv1",
    "lora_unet_down_blocks_0_resnets_0_conv1",
    "",
    (64, 64, 3, 3),
)
TIME = Sample("unet.time_embedding.linear_1", "lora_unet_time_embedding_linear_1", "", (256, 64))
SAMPLES = (TO_K, TO_OUT, Q_PROJ, FC1, FF, PROJ_IN, CONV, TIME)
ATTENTION = (TO_K, TO_OUT, Q_PROJ)
# The mini base has one resnet and one transformer in every block on the way down.
LDM = {
    TO_K: "input_blocks.1.1.transformer_blocks.0.attn2.to_k",
    TO_OUT: "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
    FF: "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj",
    PROJ_IN: "input_blocks.1.1.proj_in",
    CONV: "input_blocks.1.0.in_layers.2",
    TIME: "time_embed.0",
}
COMFY_CLIP = "text_encoders.clip_l.transformer.text_model.encoder.layers.1"
COMFY = {sample: f"diffusion_model.{name}" for sample, name in LDM.items()} | {
    Q_PROJ: f"{COMFY_CLIP}.self_attn.q_proj",
    FC1: f"{COMFY_CLIP}.mlp.fc1",
}


@dataclass(frozen=True)
class Factors:
    """up (out, r[, 1, 1]) and down (r, in[, kh, kw]) of a sample layer, as trained."""

    up: Tensor
    down: Tensor

    def product(self) -> Tensor:
        """up @ down on flattened tensors, (out, in) in float64."""
        return self.up.flatten(1).double() @ self.down.flatten(1).double()


def factors(sample: Sample, rank: int = 4, dtype: torch.dtype = torch.float16) -> Factors:
    """Random factors in the shapes that trainers store, seeded by the layer's name."""
    generator = torch.Generator().manual_seed(sum(sample.name.encode()))
    up = torch.randn(sample.shape[0], rank, generator=generator)
    down = torch.randn(rank, *sample.shape[1:], generator=generator)
    if len(sample.shape) == 4:
        up = up[..., None, None]
    return Factors((0.1 * up).to(dtype), (0.1 * down).to(dtype))


def kohya(parts: Mapping[Sample, Factors], alpha: Mapping[Sample, Any]) -> dict[str, Tensor]:
    """kohya's triples; a sample without alpha in the mapping gets no alpha key."""
    tensors = {}
    for sample, part in parts.items():
        tensors[f"{sample.kohya}.lora_down.weight"] = part.down
        tensors[f"{sample.kohya}.lora_up.weight"] = part.up
        if sample in alpha:
            tensors[f"{sample.kohya}.alpha"] = torch.as_tensor(alpha[sample])
    return tensors


def saved(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] = {}) -> Path:
    """The file, written by the safetensors library itself."""
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, dict(header))
    return path


def raw(path: Path, rows: Any, body: bytes = b"", length: int | None = None) -> Path:
    """A file with any header at all: JSON-able rows or bytes, and any claimed length."""
    text = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def merged_alone(adapter: Adapter) -> Adapter:
    """What a merge of nothing else gives."""
    return merge(MergeRequest((Source(adapter),), method="sum")).adapter


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


def adapter(scale: float = 0.1, base: str = "mini", every: int = 1) -> Adapter:
    """An adapter over a base's layers with ranks 1, 2, 5 and alphas that differ per layer."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for n, (name, shape) in enumerate(list(table(base).shapes.items())[::every]):
        rows, columns = flat(shape)
        rank = (1, 5, 2, 5)[n % 4]
        up = scale * torch.randn(rows, rank, generator=generator)
        down = scale * torch.randn(rank, columns, generator=generator)
        layers[name] = LoraLayer(up, down, alpha=(0.3, 4.0, 2.0)[n % 3])
    return Adapter("merged one", layers, base, trigger="sks cat")


def metadata(path: Path) -> dict[str, str]:
    """The header's metadata, as the safetensors library reads it."""
    with safe_open(path, "pt") as stream:
        return dict(stream.metadata() or {})


def accounted(path: Path) -> None:
    """Keys of layers, unused keys and keys of vectors are together all keys, each once."""
    with opened(path, path.name) as body:
        header = body.header
    match = best_match(header, table("mini"), path.name)
    found = [key for keys in match.layers.values() for key in keys.values()]
    listed = [key for keys in match.unused.values() for key in keys]
    listed += match.shifts.values()
    assert sorted(found + listed) == sorted(header.tensors)


def vectors(seed: int = 0, count: int = 2, wide: int = 128) -> Tensor:
    return torch.randn(count, wide, generator=torch.Generator().manual_seed(seed))


def large(path: Path) -> Path:
    """A LoRA of rank 128 for all of Stable Diffusion 1.5, of which only the header is written."""
    rows: dict[str, Any] = {}
    offset = 0

    def add(key: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
        nonlocal offset
        rows[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size

    for layer, shape in table("sd15").shapes.items():
        stem = key_stems(layer)[0]
        up, down = (shape[0], 128, *(1,) * len(shape[2:])), (128, *shape[1:])
        add(f"{stem}.lora_up.weight", "F16", up, 2 * 128 * shape[0])
        add(f"{stem}.lora_down.weight", "F16", down, 2 * 128 * torch.Size(shape[1:]).numel())
        add(f"{stem}.alpha", "F32", (), 4)
    raw(path, rows)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + offset)  # sparse: zeros that lie nowhere
    return path
