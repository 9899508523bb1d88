"""A LoRA file to its canonical form, or one clear sentence on why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import detect, embeddings
from merging.formats import vector_deltas as shifts
from merging.formats.families import dora
from merging.formats.families import table as changes
from merging.formats.families.layer_tensors import BaseWeights, Part, not_finite
from merging.formats.key_names import peft
from merging.formats.layer_tables import LayerTable, Role, printable, title
from merging.formats.match import Fit, family, fitted
from merging.formats.overview import warnings
from merging.formats.tensors import Body, opened
from merging.formats.trigger_words import trigger


@dataclass(frozen=True)
class Contents:
    """What a file holds beside its keys, and what the user calls it."""

    file: str
    body: Body
    settings: Mapping[str, Any]  # PEFT's, {} in files of other families
    weights: BaseWeights | None  # of the base model, where it is at hand


def read(
    path: Path,
    table: LayerTable | None = None,
    name: str | None = None,
    weights: BaseWeights | None = None,
) -> Adapter:
    """Read an SD 1.x adapter of any family; factors come in float32, whatever the file has.

    Without ``table`` the base model is found by names and shapes ("sd15" or "mini"). ``name`` is
    what the user calls the file, if not as it lies on the disk. ``weights`` gives the base model's
    weight for a layer's name: DoRA, IA³, OFT and GLoRA need it. Raises MergeError for everything
    else: damaged files, other base models and other kinds of files, each by name.
    """
    path = Path(path)
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        header = body.header
        detect.refuse_strangers(header, file)
        fit = fitted(header, table, file)
        settings = peft.config(header, path, file)
        words = embeddings.bundled(body, fit.left.get(embeddings.KIND, []), fit.table)
        layers = _layers(fit, Contents(file, body, settings, weights))
        return Adapter(
            name=title(file),
            layers=layers,
            base=fit.table.name,
            family=family(fit),
            trigger=trigger(header.metadata) or " ".join(each.word for each in words),
            metadata=header.metadata,
            sha256=body.sha256(),
            warnings=tuple(warnings(header, fit, title(file))),
            embeddings=words,
            shifts=shifts.read_shifts(fit.shifts, layers, body),
            based=any(map(changes.needs_base, fit.layers.values())),
        )


def _layers(fit: Fit, contents: Contents) -> dict[str, LoraLayer]:
    """All layers in the table's order; MergeError if one has impossible values, or all are zero."""
    layers = {layer: _layer(layer, keys, fit.table, contents) for layer, keys in fit.layers.items()}
    if not any(layer.up.any() and layer.down.any() for layer in layers.values()):
        raise MergeError(
            f"{contents.file} changes nothing: it has no layer whose values are not zero; "
            "is it untrained?"
        )
    return layers


def _layer(
    layer: str, keys: Mapping[Role, str], table: LayerTable, contents: Contents
) -> LoraLayer:
    """One layer by its family's rule, in float32."""
    tensors = {role: contents.body.tensor(key).double() for role, key in keys.items()}
    found = changes.family_of(keys)
    assert found is not None  # a layer without family is a misfit
    _check_finite(layer, tensors, contents.file)
    part = Part(
        file=contents.file,
        layer=layer,
        kind=f"written as {changes.title(keys)}",
        shape=table.shapes[layer],
        tensors=tensors,
        alpha=_alpha(layer, keys, tensors, contents),
        weights=contents.weights,
    )
    try:
        change = _changed(found, part)
    except torch.linalg.LinAlgError as error:
        raise MergeError(
            f"{contents.file}: layer {layer} has values too large to calculate with; its training "
            "failed, or the file is damaged."
        ) from error
    up, down = change.up.float(), change.down.float()
    _check_finite(layer, {"up": up, "down": down}, contents.file)
    return LoraLayer(up, down, change.alpha)


def _changed(family: changes.Family, part: Part) -> LoraLayer:
    """The layer's change in float64, with everything that stands beside its factors."""
    change = family.change(part)
    if "scalar" in part.tensors:  # old LyCORIS files leave the last factor to the reader
        change = LoraLayer(change.up * part.tensors["scalar"].item(), change.down, change.alpha)
    return dora.baked(part, change) if changes.is_dora(part.tensors) else change


def _check_finite(layer: str, tensors: Mapping[Role, Tensor], file: str) -> None:
    for tensor in tensors.values():
        if not tensor.isfinite().all():
            raise not_finite(file, layer)


def _alpha(
    layer: str, keys: Mapping[Role, str], tensors: Mapping[Role, Tensor], contents: Contents
) -> float | None:
    """alpha of a layer: its own tensor, else PEFT's settings, else None."""
    if "alpha" in keys:
        return tensors["alpha"].item()
    if not keys.get("down", "").endswith(".lora_A.weight"):
        return None
    alpha = peft.alpha_of(layer, tensors["down"].shape[0], contents.settings, contents.file)
    if not isfinite(alpha):
        raise MergeError(
            f"{contents.file}: layer {layer} has an alpha that is no finite number; save the LoRA "
            "again with diffusers."
        )
    return alpha
