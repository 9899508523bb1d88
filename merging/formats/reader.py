"""A LoRA file to its canonical form, or one clear sentence on why not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import detect, peft
from merging.formats.fit import Fit, family, fitted
from merging.formats.header import read_checked
from merging.formats.layers import LayerTable, Role
from merging.formats.trigger import trigger

MAX_RANK = 1024  # eight merged LoRAs of rank 128, without loss


@dataclass(frozen=True)
class Contents:
    """What a file holds beside its keys, and what the user calls it."""

    file: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]  # PEFT's, {} in files of other families


def read(path: Path, table: LayerTable | None = None, name: str | None = None) -> Adapter:
    """Read a kohya, PEFT or older diffusers file; factors come in float32, whatever the file has.

    Without ``table`` the base model is found by names and shapes ("sd15" or "mini"). ``name`` is
    what the user calls the file, if not as it lies on the disk. Raises MergeError for everything
    else: damaged files, other base models and other kinds of adapters, each by name.
    """
    path = Path(path)
    file = _printable(Path(name or path).name)
    header, blob = read_checked(path, file)
    detect.refuse_strangers(header, file)
    fit = fitted(header, table, file)
    contents = Contents(file, _tensors(blob, file), peft.config(header.metadata, file))
    layers, warnings = _layers(fit, contents)
    title = Path(file).stem if Path(file).suffix.lower() == ".safetensors" else file
    return Adapter(
        name=title,
        layers=layers,
        base=fit.table.name,
        family=family(header, fit.table),
        trigger=trigger(header.metadata),
        metadata=header.metadata,
        sha256=hashlib.sha256(blob).hexdigest(),
        warnings=(*warnings, *detect.doubts(header, title)),
    )


def _printable(name: str) -> str:
    """A file name without the half characters that systems use for bytes they cannot read."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _tensors(blob: bytes, file: str) -> Mapping[str, Tensor]:
    """All tensors of a file that has passed the guard."""
    try:
        found: Mapping[str, Tensor] = safetensors.torch.load(blob)
        return found
    except safetensors.SafetensorError as error:
        raise MergeError(f"{file} is damaged ({error}); download or copy it again.") from error


def _layers(fit: Fit, contents: Contents) -> tuple[dict[str, LoraLayer], list[str]]:
    """All layers in the table's order, and warnings; MergeError if one is not whole."""
    stray = [keys["alpha"] for keys in fit.layers.values() if keys.keys() == {"alpha"}]
    pairs = {layer: keys for layer, keys in fit.layers.items() if keys.keys() != {"alpha"}}
    layers = {layer: _layer(layer, keys, contents) for layer, keys in pairs.items()}
    if not any(layer.up.any() and layer.down.any() for layer in layers.values()):
        raise MergeError(
            f"{contents.file} changes nothing: it has no layer whose values are not zero; "
            "is it untrained?"
        )
    warnings = []
    if stray:
        warnings.append(f"{len(stray)} alphas without weights left out, such as {stray[0]}.")
    bare = [keys for keys in pairs.values() if keys["down"].endswith("lora_down.weight")]
    bare = [keys for keys in bare if "alpha" not in keys]
    if bare:
        warnings.append(f"{len(bare)} layers name no alpha; it is taken to be their rank.")
    return layers, warnings


def _layer(layer: str, keys: Mapping[Role, str], contents: Contents) -> LoraLayer:
    """One layer; MergeError if a half is missing, or ranks or values are impossible."""
    where = f"{contents.file}: layer {layer}"
    if "up" not in keys or "down" not in keys:
        missing, there = ("up", "down") if "down" in keys else ("down", "up")
        raise MergeError(
            f"{where} has {there} but no {missing}; the file is incomplete, save or download it "
            "again."
        )
    up = contents.tensors[keys["up"]].float().flatten(1)
    down = contents.tensors[keys["down"]].float().flatten(1)
    rank = down.shape[0]
    if up.shape[1] != rank or rank > MAX_RANK:
        raise MergeError(
            f"{where} has up {tuple(up.shape)} but down {tuple(down.shape)}; both must have the "
            f"same rank, at most {MAX_RANK}: the file is damaged or not a LoRA."
        )
    alpha = _alpha(layer, rank, keys, contents)
    if not (up.isfinite().all() and down.isfinite().all() and isfinite(alpha)):
        raise MergeError(
            f"{where} has values that are not finite numbers; its training failed, or the file is "
            "damaged."
        )
    return LoraLayer(up, down, alpha)


def _alpha(layer: str, rank: int, keys: Mapping[Role, str], contents: Contents) -> float:
    """alpha of a layer: its own tensor, else PEFT's header, else the rank; 0 means the rank."""
    if "alpha" in keys:
        return float(contents.tensors[keys["alpha"]].item()) or float(rank)
    if keys["down"].endswith(".lora_A.weight"):
        return peft.alpha_of(layer, rank, contents.settings, contents.file)
    return float(rank)
