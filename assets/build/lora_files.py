"""Write a LoRA in the file families that users have.

Written from the formats' definitions and sharing nothing with `merging.formats`, so that these
files also test its readers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from assets.build.vector.concepts import Concept

Pairs = Mapping[str, tuple[Tensor, Tensor]]  # module -> (down, up), change = up @ down
OLD_TEXT_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def write(concept: Concept, pairs: Pairs, folder: Path) -> Path:
    """Write the concept's LoRA in its family, float16, with its trigger phrase in the header."""
    scale = concept.rank / concept.alpha
    scaled = {name: (down, up * scale) for name, (down, up) in pairs.items()}
    tensors = FAMILIES[concept.family](concept, scaled)
    header = _header(concept) | HEADERS[concept.family](concept)
    path = folder / concept.file
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in tensors.items()}, path, header)
    return path


def kohya(concept: Concept, pairs: Pairs) -> dict[str, Tensor]:
    """kohya-ss: underscored names, alpha as a tensor beside each pair."""
    tensors = {}
    for name, (down, up) in pairs.items():
        part, _, module = name.partition(".")
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part]
        key = prefix + module.replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = down
        tensors[f"{key}.lora_up.weight"] = up
        tensors[f"{key}.alpha"] = torch.tensor(concept.alpha)
    return tensors


def peft(concept: Concept, pairs: Pairs) -> dict[str, Tensor]:
    """diffusers with PEFT: dotted names; rank and alpha, where they differ, in the header."""
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{name}.lora_A.weight"] = down
        tensors[f"{name}.lora_B.weight"] = up
    return tensors


def old_diffusers(concept: Concept, pairs: Pairs) -> dict[str, Tensor]:
    """diffusers before 0.22: attention processors own the pairs; there is no alpha at all."""
    tensors = {}
    for name, (down, up) in pairs.items():
        block, _, layer = name.removesuffix(".0").rpartition(".")
        owner = f"{block}.processor" if name.startswith("unet.") else block
        key = f"{owner}.{OLD_TEXT_NAMES.get(layer, layer)}_lora"
        tensors[f"{key}.down.weight"] = down
        tensors[f"{key}.up.weight"] = up
    return tensors


def _header(concept: Concept) -> dict[str, str]:
    return {
        "modelspec.title": f"{concept.name}: {concept.look} {concept.object}",
        "modelspec.trigger_phrase": concept.name,
    }


def _kohya_header(concept: Concept) -> dict[str, str]:
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(concept.rank),
        "ss_network_alpha": str(concept.alpha),
        "ss_base_model_version": "mini-sd",
    }


def _peft_header(concept: Concept) -> dict[str, str]:
    if concept.alpha == concept.rank:
        return {"format": "pt"}
    config = {"r": concept.rank, "lora_alpha": concept.alpha, "peft_type": "LORA"}
    parts = {f"{part}.{key}": config[key] for part in ("unet", "text_encoder") for key in config}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(parts, indent=2, sort_keys=True)}


FAMILIES = {"kohya": kohya, "peft": peft, "old-diffusers": old_diffusers}
HEADERS = {
    "kohya": _kohya_header,
    "peft": _peft_header,
    "old-diffusers": lambda _: {"format": "pt"},
}
