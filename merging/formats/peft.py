"""diffusers files with PEFT: dotted names; rank and alpha, where they differ, in the header."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from math import sqrt
from typing import Any

from merging.errors import MergeError
from merging.formats.layers import LayerTable, Role, Slots, spellings

FAMILY = "diffusers (PEFT)"
CONFIG_KEY = "lora_adapter_metadata"  # header field of diffusers ≥ 0.35: PEFT's config, as JSON
# diffusers writes no alpha tensor, but ComfyUI reads one here and some trainers write it.
ROLES: dict[str, Role] = {"lora_A.weight": "down", "lora_B.weight": "up", "alpha": "alpha"}


def slots(table: LayerTable) -> Slots:
    """Every key that a PEFT file for this base can have."""
    return {
        f"{name}.{suffix}": (layer, role)
        for layer in table.shapes
        for name in spellings(layer)
        for suffix, role in ROLES.items()
    }


def config(metadata: Mapping[str, str], file: str) -> Mapping[str, Any]:
    """PEFT's configuration from a header, {} where there is none.

    Raises MergeError if it is damaged, or asks for DoRA, whose change is no low-rank one.
    """
    try:
        found = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except (ValueError, RecursionError):
        found = None
    patterns = [f"{part}.alpha_pattern" for part in ("unet", "text_encoder")]
    if not isinstance(found, dict) or any(
        not isinstance(found.get(key) or {}, dict) for key in patterns
    ):
        raise MergeError(
            f"{file}: the header field {CONFIG_KEY} is not a JSON object, so the strength of the "
            "layers is unknown; save the LoRA again with diffusers."
        )
    if any(found.get(f"{part}.use_dora") for part in ("unet", "text_encoder")):
        raise MergeError(f"{file} is a DoRA, which cannot be merged yet; use a plain LoRA.")
    return found


def alpha_of(layer: str, rank: int, settings: Mapping[str, Any], file: str) -> float:
    """alpha such that alpha / rank is PEFT's scale for this layer; rank where nothing is said.

    rsLoRA scales by alpha / √rank, which is folded in here.
    """
    part, _, module = layer.partition(".")
    patterns = settings.get(f"{part}.alpha_pattern") or {}
    alpha = settings.get(f"{part}.lora_alpha", rank)
    try:
        alpha = next((patterns[key] for key in patterns if _names(key, module)), alpha)
        return float(alpha) * (sqrt(rank) if settings.get(f"{part}.use_rslora") else 1.0)
    except (TypeError, ValueError, OverflowError) as error:
        raise MergeError(
            f"{file}: layer {layer} has no usable alpha in the header field {CONFIG_KEY} "
            f"({error}); save the LoRA again with diffusers."
        ) from error


def _names(key: str, module: str) -> bool:
    """Whether a pattern of PEFT means this module; the file's patterns are never run as regexes.

    Trainers write module names here, whole or only the end, some with ``^`` in front.
    """
    plain = key.removeprefix("^")
    if not re.fullmatch(r"[\w.]+", plain):
        raise ValueError(f"the pattern {key!r} is no module name")
    return module == plain or (plain == key and module.endswith(f".{plain}"))


def written_config(ranks: Mapping[str, int]) -> str:
    """PEFT's configuration, as JSON, of layers (canonical name → rank) that all have scale 1.

    diffusers before 0.40 scales mixed ranks rightly only if it is there.
    """
    found: dict[str, Any] = {}
    for part in ("unet", "text_encoder"):
        # without CLIP's text_model., so that the names are ends of those of any transformers
        mine = {
            spellings(layer)[-1].partition(".")[2]: rank
            for layer, rank in ranks.items()
            if layer.startswith(f"{part}.")
        }
        if mine:
            found |= {f"{part}.{key}": value for key, value in _part_config(mine).items()}
    return json.dumps(found, sort_keys=True)


def _part_config(ranks: Mapping[str, int]) -> dict[str, Any]:
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: rank for module, rank in ranks.items() if rank != common}
    return {
        "r": common,
        "lora_alpha": common,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(ranks),
    }
