"""diffusers files with PEFT: names with dots; rank and alpha in the header if they differ."""

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
PEFT_PREFIX = "base_model.model."  # PEFT's prefix of a model's module names
MAX_PATTERNS = 1000  # per model; Stable Diffusion 1.5 has 282 and 72 layers
# Initialisations that subtract the factors' first values from the base's weights.
CHANGED_BASE_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


def names(table: LayerTable) -> Names:
    """Key stem → layer, as diffusers and as PEFT itself name them."""
    names = {}
    for layer in table.shapes:
        for spelling in spellings(layer):
            part, _, module = spelling.partition(".")
            for prefix in (f"{part}.", f"{part}.{PEFT_PREFIX}", PEFT_PREFIX, ""):
                names[prefix + module] = layer
    return names


def config(header: Header, path: Path, file: str) -> Mapping[str, Any]:
    """PEFT's configuration, from the header or from the folder of a raw PEFT file; {} if none.

    Raises MergeError if it is damaged, missing for a raw PEFT file, or contradicts the tensors.
    """
    raw = (
        any(key.startswith(PEFT_PREFIX) for key in header.tensors)
        and CONFIG_KEY not in header.metadata
    )
    text = _read_config_file(path, file) if raw else header.metadata.get(CONFIG_KEY, "{}")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if raw and isinstance(settings, dict):
        settings = {f"{part}.{key}": value for part in PARTS for key, value in settings.items()}
    if reason := _config_error(settings, header):
        place = PEFT_CONFIG if raw else f"the header field {CONFIG_KEY}"
        raise MergeError(
            f"{file}: {place} {reason}, so the alpha of the layers is unknown; save the LoRA "
            "again with diffusers or peft."
        )
    return settings


def _read_config_file(path: Path, file: str) -> str:
    """The text of the configuration that PEFT saves in the same folder."""
    try:
        with peft_config_path(path).open(encoding="utf-8") as stream:
            return stream.read(MAX_CONFIG)
    except (OSError, UnicodeDecodeError) as error:
        raise MergeError(
            f"{file} is a bare PEFT file, whose alpha is in {PEFT_CONFIG}; put that file into the "
            "same folder, or save the LoRA with diffusers."
        ) from error


def _config_error(settings: Any, header: Header) -> str:
    """Why a configuration cannot be used, "" if it can."""
    if not isinstance(settings, dict):
        return "is not a JSON object"
    patterns = [settings.get(f"{part}.alpha_pattern") or {} for part in PARTS]
    if any(not isinstance(rows, dict) or len(rows) > MAX_PATTERNS for rows in patterns):
        return f"has an alpha_pattern that is not a JSON object of at most {MAX_PATTERNS} layers"
    starts = [str(settings.get(f"{part}.init_lora_weights")) for part in PARTS]
    if changed := [start for start in starts if start.startswith(CHANGED_BASE_STARTS)]:
        remedy = "peft's path_initial_model_for_weight_conversion undoes that"
        return (
            f"says that training began with {changed[0][:20]}, on a changed base model ({remedy})"
        )
    kinds = {settings.get(f"{part}.peft_type") for part in PARTS} - {None, "LORA"}
    if kinds:
        return f"says {kinds.pop()}, not LORA"
    magnitudes = any("lora_magnitude_vector" in key for key in header.tensors)
    if any(settings.get(f"{part}.use_dora") for part in PARTS) and not magnitudes:
        return "says DoRA, but the file has no lora_magnitude_vector"
    return ""


def alpha_of(layer: str, rank: int, settings: Mapping[str, Any], file: str) -> float:
    """alpha such that alpha / rank is PEFT's scale for this layer; the rank by default.

    rsLoRA scales by alpha / √rank, which this alpha includes.
    """
    part = layer.partition(".")[0]
    modules = [spelling.partition(".")[2] for spelling in spellings(layer)]
    patterns = settings.get(f"{part}.alpha_pattern") or {}
    alpha = settings.get(f"{part}.lora_alpha", rank)
    try:
        alpha = next((patterns[key] for key in patterns if _pattern_matches(key, modules)), alpha)
        return float(alpha) * (sqrt(rank) if settings.get(f"{part}.use_rslora") else 1.0)
    except (TypeError, ValueError, OverflowError) as error:
        raise MergeError(
            f"{file}: layer {layer} has no usable alpha in its configuration ({error}); "
            "write numbers there, for layers by their names, or save the LoRA again with diffusers."
        ) from error


def _pattern_matches(key: str, modules: Sequence[str]) -> bool:
    """Whether a pattern of PEFT matches this module; patterns are never run as regexes.

    Trainers write whole module names or their ends, diffusers with ``^`` in front; CLIP's come
    with and without ``text_model.``.
    """
    plain = key.removeprefix("^")
    if not re.fullmatch(r"[\w.]+", plain):
        raise ValueError(f"the pattern {key!r} is not a module name")
    whole = plain != key
    return any(
        module == plain or (not whole and module.endswith(f".{plain}")) for module in modules
    )


def build_config(ranks: Mapping[str, int]) -> str:
    """PEFT's configuration as JSON, for layers (canonical name → rank) that all have scale 1.

    diffusers before 0.40 needs it to scale mixed ranks correctly.
    """
    settings: dict[str, Any] = {}
    for part in PARTS:
        # without CLIP's text_model., to be the end of a name in any transformers release
        modules = {
            spellings(layer)[-1].partition(".")[2]: rank
            for layer, rank in ranks.items()
            if layer.startswith(f"{part}.")
        }
        if modules:
            settings |= {f"{part}.{key}": value for key, value in _part_config(modules).items()}
    return json.dumps(settings, sort_keys=True)


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
