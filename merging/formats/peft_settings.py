"""PEFT's settings of a file: the scales that its tensors do not hold, however its keys are spelled.

They are in the header (diffusers ≥ 0.35) or, for a folder that PEFT saved, in a file beside it.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

import regex

from merging.errors import MergeError
from merging.formats.families.unreadable import REMEDY
from merging.formats.header import Header
from merging.formats.layer_tables import spellings
from merging.io.files import MAX_CONFIG, PEFT_CONFIG, peft_config_path

CONFIG_KEY = "lora_adapter_metadata"  # header field of diffusers ≥ 0.35: PEFT's config, as JSON
PEFT_PREFIX = "base_model.model."  # PEFT's prefix of a model's module names
PARTS = ("unet", "text_encoder")
MAX_PATTERNS = 1000  # per model; Stable Diffusion 1.5 has 282 and 72 layers
MAX_PATTERN = 500  # characters
MAX_REPEATS = 64  # of a counted repeat: nested ones multiply when they are compiled
MATCH_SECONDS = 2.0  # for all patterns of a file together
UNKNOWN_ALPHA = "so the alpha of the layers is unknown; save the LoRA again with diffusers or peft"
CONVERT = "convert it by peft's path_initial_model_for_weight_conversion"
# Initialisations that subtract the factors' first values from the base's weights → what to do.
CHANGED_BASE_STARTS = {
    **dict.fromkeys(("pissa", "olora", "corda", "lora_ga"), CONVERT),
    **dict.fromkeys(("loftq", "n_lora"), REMEDY),
}
# Of PEFT's adapters, those that can be read.
KINDS = (
    "LORA",
    "LOHA",
    "LOKR",
    "OFT",
    "VERA",
    "FOURIERFT",
    "HRA",
    "BOFT",
    "SHIRA",
    "VBLORA",
    "UNILORA",
)


@dataclass(frozen=True)
class Settings:
    """The settings of a file by part of the model, ``unet.lora_alpha``; empty for most files."""

    file: str  # for errors
    values: Mapping[str, Any]

    def alpha(self, layer: str, rank: int) -> float | None:
        """alpha such that alpha / rank is PEFT's scale for this layer; None if nothing says so.

        rsLoRA scales by alpha / √rank, which this alpha includes.
        """
        part = layer.partition(".")[0]
        stabilised = bool(self.values.get(f"{part}.use_rslora"))
        common = self.values.get(f"{part}.lora_alpha", self.values.get(f"{part}.alpha"))
        try:
            alpha = self._by_pattern(layer, f"{part}.alpha_pattern", common)
            if alpha is None:
                return sqrt(rank) * rank if stabilised else None
            return float(alpha) * (sqrt(rank) if stabilised else 1.0)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._error(layer, "alpha", error) from error

    def rank(self, layer: str) -> int | None:
        """The rank by which PEFT divides alpha, for families whose tensors may not show it."""
        part = layer.partition(".")[0]
        try:
            rank = self._by_pattern(layer, f"{part}.rank_pattern", self.values.get(f"{part}.r"))
            return None if rank is None else int(rank)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._error(layer, "rank", error) from error

    def of_part(self, layer: str) -> dict[str, Any]:
        """The settings of the layer's part of the model."""
        prefix = f"{layer.partition('.')[0]}."
        return {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}

    def _error(self, layer: str, setting: str, error: Exception) -> MergeError:
        return MergeError(
            f"{self.file}: layer {layer} has no usable {setting} in its configuration ({error}); "
            "write numbers there, for layers by their names, or save the LoRA again with diffusers."
        )

    def _by_pattern(self, layer: str, field: str, common: Any) -> Any:
        """The value of the first pattern that matches the layer, else the common one."""
        modules = [spelling.partition(".")[2] for spelling in spellings(layer)]
        patterns = self.values.get(field) or {}
        return next((patterns[key] for key in patterns if self._matches(key, modules)), common)

    def _matches(self, key: str, modules: Sequence[str]) -> bool:
        """Whether a pattern matches a name as in PEFT: ``re.match`` of ``(.*\\.)?(key)$``."""
        plain = key.removeprefix("^")
        if re.fullmatch(r"[\w.]+", plain):  # a module's name or its end, as trainers write it
            whole = plain != key
            return any(
                module == plain or (not whole and module.endswith(f".{plain}"))
                for module in modules
            )
        return any(self._search(key, module) for module in modules)

    def _search(self, key: str, module: str) -> bool:
        """Run a regular expression of the file, within limits; ValueError beyond them."""
        if not _is_harmless(key):
            raise ValueError(f"the pattern {key[:60]!r} is too complex")
        left = self._deadline - time.monotonic()
        try:
            match = left > 0 and regex.match(rf"(.*\.)?({key})$", module, timeout=left)
        except regex.error as error:
            raise ValueError(f"the pattern {key[:60]!r} is no regular expression") from error
        except TimeoutError:
            left = 0
        if left <= 0:
            raise ValueError(f"the pattern {key[:60]!r} takes too long")
        return bool(match)

    @cached_property
    def _deadline(self) -> float:
        return time.monotonic() + MATCH_SECONDS


def _is_harmless(pattern: str) -> bool:
    """Whether compiling the pattern takes little memory: no large repeats, no recursion."""
    counts = re.findall(r"\{(.*?)\}", pattern)
    numbers = [number for count in counts for number in count.split(",") if number]
    return (
        len(pattern) <= MAX_PATTERN
        and len(counts) <= 2
        and all(number.isdecimal() and int(number) <= MAX_REPEATS for number in numbers)
        and not re.search(r"\(\?(?!:|<?[=!])", pattern)
    )


def peft_settings(header: Header, path: Path, file: str) -> Settings:
    """PEFT's settings, from the header or from the folder of a raw PEFT file.

    Raises MergeError if they are damaged, missing for a raw PEFT file, or contradict the tensors.
    """
    raw = (
        any(key.startswith(PEFT_PREFIX) for key in header.tensors)
        and CONFIG_KEY not in header.metadata
    )
    text = _read_config_file(path, file) if raw else header.metadata.get(CONFIG_KEY, "{}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if raw and isinstance(values, dict):
        values = {f"{part}.{key}": value for part in PARTS for key, value in values.items()}
    if reason := _config_error(values, header):
        place = PEFT_CONFIG if raw else f"the header field {CONFIG_KEY}"
        raise MergeError(f"{file}: {place} {reason}.")
    return Settings(file, values)


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


def _config_error(values: Any, header: Header) -> str:
    """Why a configuration cannot be used, and what to do; "" if it can."""
    if not isinstance(values, dict):
        return f"is not a JSON object, {UNKNOWN_ALPHA}"
    for article, name in (("an", "alpha_pattern"), ("a", "rank_pattern")):
        patterns = [values.get(f"{part}.{name}") or {} for part in PARTS]
        if any(not isinstance(rows, dict) or len(rows) > MAX_PATTERNS for rows in patterns):
            return (
                f"has {article} {name} that is not a JSON object of at most {MAX_PATTERNS} layers, "
                f"{UNKNOWN_ALPHA}"
            )
    if reason := _changed_base(values):
        return reason
    kinds = {str(values.get(f"{part}.peft_type")) for part in PARTS} - {"None", *KINDS}
    if kinds:
        known = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        return f"says {min(kinds)[:20]}, not {known}, so it cannot be read; {REMEDY}"
    magnitudes = any("lora_magnitude_vector" in key for key in header.tensors)
    scales = any(key.endswith(".dora_scale") for key in header.tensors)
    if any(values.get(f"{part}.use_dora") for part in PARTS) and not (magnitudes or scales):
        return (
            "says DoRA, but the file has no lora_magnitude_vector; save the LoRA again with "
            "diffusers or peft"
        )
    return ""


def _changed_base(values: Mapping[str, Any]) -> str:
    """Why the factors are no change of the base itself, and what to do; "" if they are."""
    for start, remedy in CHANGED_BASE_STARTS.items():
        for part in PARTS:
            own = str(values.get(f"{part}.init_lora_weights"))
            if own.startswith(start):
                return (
                    f"says that training began with {own[:20]}, on a changed base model, so the "
                    f"file has not its whole change; {remedy}"
                )
    return ""


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
