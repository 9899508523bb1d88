"""diffusers files with PEFT: dotted names; rank and alpha, where they differ, in the header."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from merging.errors import MergeError
from merging.formats.header import Header
from merging.formats.layer_tables import LayerTable, Names, Role, spellings
from merging.formats.vector_deltas import UP_BIAS
from merging.io.files import MAX_CONFIG, PEFT_CONFIG, peft_config_path

FAMILY = "diffusers (PEFT)"
CONFIG_KEY = "lora_adapter_metadata"  # header field of diffusers ≥ 0.35: PEFT's config, as JSON
# diffusers writes no alpha tensor, but ComfyUI reads one here and some trainers write it.
ROLES: dict[str, Role] = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_B.bias": UP_BIAS,
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "alpha": "alpha",
}
PARTS = ("unet", "text_encoder")
BARE = "base_model.model."  # what PEFT itself puts in front of a model's own names
MAX_PATTERNS = 1000  # of a part; Stable Diffusion 1.5 has 282 and 72 layers
# Starts of training that take the pair's first values off the base's own weights.
SHIFTED = ("pissa", "olora", "corda", "loftq", "lora_ga")


def names(table: LayerTable) -> Names:
    """Every name of every layer, as diffusers and as PEFT itself spell it."""
    found = {}
    for layer in table.shapes:
        for spelling in spellings(layer):
            part, _, module = spelling.partition(".")
            for prefix in (f"{part}.", f"{part}.{BARE}", BARE, ""):
                found[prefix + module] = layer
    return found


def config(header: Header, path: Path, file: str) -> Mapping[str, Any]:
    """PEFT's configuration, from the header or from beside a raw PEFT file; {} if there is none.

    Raises MergeError if it is damaged, missing where all depends on it, or denied by the tensors.
    """
    raw = any(key.startswith(BARE) for key in header.tensors) and CONFIG_KEY not in header.metadata
    text = _beside(path, file) if raw else header.metadata.get(CONFIG_KEY, "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if raw and isinstance(found, dict):
        found = {f"{part}.{key}": value for part in PARTS for key, value in found.items()}
    if wrong := _wrong(found, header):
        place = PEFT_CONFIG if raw else f"the header field {CONFIG_KEY}"
        raise MergeError(
            f"{file}: {place} {wrong}, so the strength of the layers is unknown; save the LoRA "
            "again with diffusers or peft."
        )
    return found


def _beside(path: Path, file: str) -> str:
    """The configuration that PEFT saves in the same folder."""
    try:
        with peft_config_path(path).open(encoding="utf-8") as stream:
            return stream.read(MAX_CONFIG)
    except (OSError, UnicodeDecodeError) as error:
        raise MergeError(
            f"{file} is a bare PEFT file, whose alpha is in {PEFT_CONFIG}; put that file into the "
            "same folder, or save the LoRA with diffusers."
        ) from error


def _wrong(found: Any, header: Header) -> str:
    """What makes a configuration unusable, "" if nothing does."""
    if not isinstance(found, dict):
        return "is not a JSON object"
    patterns = [found.get(f"{part}.alpha_pattern") or {} for part in PARTS]
    if any(not isinstance(each, dict) or len(each) > MAX_PATTERNS for each in patterns):
        return f"has an alpha_pattern that is not a JSON object of at most {MAX_PATTERNS} layers"
    starts = [str(found.get(f"{part}.init_lora_weights")) for part in PARTS]
    if told := [start for start in starts if start.startswith(SHIFTED)]:
        remedy = "peft's path_initial_model_for_weight_conversion undoes that"
        return f"says that training began with {told[0][:20]}, on a changed base model ({remedy})"
    kinds = {found.get(f"{part}.peft_type") for part in PARTS} - {None, "LORA"}
    if kinds:
        return f"says {kinds.pop()}, not LORA"
    magnitudes = any("lora_magnitude_vector" in key for key in header.tensors)
    if any(found.get(f"{part}.use_dora") for part in PARTS) and not magnitudes:
        return "says DoRA, but the file has no lora_magnitude_vector"
    return ""


def alpha_of(layer: str, rank: int, settings: Mapping[str, Any], file: str) -> float:
    """alpha such that alpha / rank is PEFT's scale for this layer; rank where nothing is said.

    rsLoRA scales by alpha / √rank, which is folded in here.
    """
    part = layer.partition(".")[0]
    modules = [spelling.partition(".")[2] for spelling in spellings(layer)]
    patterns = settings.get(f"{part}.alpha_pattern") or {}
    alpha = settings.get(f"{part}.lora_alpha", rank)
    try:
        alpha = next((patterns[key] for key in patterns if _names(key, modules)), alpha)
        return float(alpha) * (sqrt(rank) if settings.get(f"{part}.use_rslora") else 1.0)
    except (TypeError, ValueError, OverflowError) as error:
        raise MergeError(
            f"{file}: layer {layer} has no usable alpha in its configuration ({error}); "
            "write numbers there, for layers by their names, or save the LoRA again with diffusers."
        ) from error


def _names(key: str, modules: Sequence[str]) -> bool:
    """Whether a pattern of PEFT means this module; the file's patterns are never run as regexes.

    Trainers write module names here, whole or only the end, diffusers with ``^`` in front; CLIP's
    come with and without ``text_model.``.
    """
    plain = key.removeprefix("^")
    if not re.fullmatch(r"[\w.]+", plain):
        raise ValueError(f"the pattern {key!r} is no module name")
    whole = plain != key
    return any(
        module == plain or (not whole and module.endswith(f".{plain}")) for module in modules
    )


def written_config(ranks: Mapping[str, int]) -> str:
    """PEFT's configuration, as JSON, of layers (canonical name → rank) that all have scale 1.

    diffusers before 0.40 scales mixed ranks rightly only if it is there.
    """
    found: dict[str, Any] = {}
    for part in PARTS:
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
