"""Read a LoRA file into an Adapter, or refuse it with one clear sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import detect, embeddings, unused_keys, vector_deltas
from merging.formats.families import dora
from merging.formats.families import table as families
from merging.formats.families.layer_tensors import BaseWeights, LayerTensors, not_finite_error
from merging.formats.layer_tables import LayerTable, Role, adapter_title, printable
from merging.formats.match import KeyMatch, family_text, losses, match_file
from merging.formats.overview import warnings
from merging.formats.peft_settings import Settings, peft_settings
from merging.formats.tensors import Body, opened
from merging.formats.trigger_words import trigger


@dataclass(frozen=True)
class Contents:
    """What layers are read from: the open file, PEFT's settings of it and the base's weights."""

    file: str  # name for errors
    body: Body
    settings: Settings
    weights: BaseWeights | None  # of the base model, None without one


def read(
    path: Path,
    table: LayerTable | None = None,
    name: str | None = None,
    weights: BaseWeights | None = None,
    leave_out: bool = False,
) -> Adapter:
    """Read an SD 1.x adapter of any family; the factors are float32, whatever the file has.

    Without ``table`` the base model is found by names and shapes ("sd15" or "mini"). ``name`` is
    the file name to show, by default that on the disk. ``weights`` gives the base model's weight of
    a layer: DoRA, IA³, OFT and GLoRA need it. Raises MergeError, with the file's name, for damaged
    files, other base models, other kinds of files, and for changes that no layer of the base can
    have, which ``leave_out`` leaves out.
    """
    path = Path(path)
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        header = body.header
        detect.refuse_other_files(header, file)
        match = match_file(body, table)
        lost = losses(match, header)
        if lost and not leave_out:
            raise MergeError(unused_keys.refusal(file, lost))
        settings = peft_settings(header, path, file)
        inversions = embeddings.read_bundled(
            body, match.unused.get(embeddings.KIND, []), match.table
        )
        layers = _layers(match, Contents(file, body, settings, weights))
        return Adapter(
            name=adapter_title(file),
            layers=layers,
            base=match.table.name,
            family=family_text(match),
            trigger=trigger(header.metadata)
            or " ".join(inversion.word for inversion in inversions),
            metadata=header.metadata,
            sha256=body.sha256(),
            warnings=(
                *(f"Left out: {what}." for what in lost),
                *warnings(header, match, settings, adapter_title(file)),
            ),
            embeddings=inversions,
            shifts=vector_deltas.read_shifts(match.shifts, layers, body, weights),
            based=match.needs_base,
        )


def _layers(match: KeyMatch, contents: Contents) -> dict[str, LoraLayer]:
    """All layers in the table's order; MergeError for values that are not finite, or all zero."""
    layers = {
        layer: _layer(layer, keys, match.table, contents) for layer, keys in match.layers.items()
    }
    if not any(one.alpha and one.up.any() and one.down.any() for one in layers.values()):
        raise MergeError(
            f"{contents.file} changes nothing: all its layers, or their alphas, are zero; is it "
            "untrained?"
        )
    return layers


def _layer(
    layer: str, keys: Mapping[Role, str], table: LayerTable, contents: Contents
) -> LoraLayer:
    """One layer, computed by its family in float64, as float32 factors."""
    tensors = {role: contents.body.tensor(key).double() for role, key in keys.items()}
    family = families.family_of(keys)
    assert family is not None  # a layer without family is a misfit
    _check_finite(layer, tensors, contents.file)
    shapes = {role: tuple(tensor.shape) for role, tensor in tensors.items()}
    stored = LayerTensors(
        file=contents.file,
        name=layer,
        kind=f"written as {families.family_title(keys)}",
        shape=table.shapes[layer],
        tensors=tensors,
        alpha=_alpha(layer, tensors, family.rank(shapes, table.shapes[layer]), contents),
        rank=contents.settings.rank(layer),
        settings=contents.settings.of_part(layer),
        weights=contents.weights,
    )
    try:
        change = _change(family, stored)
    except torch.linalg.LinAlgError as error:
        raise MergeError(
            f"{contents.file}: layer {layer} has values too large to calculate with; its training "
            "failed, or the file is damaged."
        ) from error
    up, down = change.up.float(), change.down.float()
    _check_finite(layer, {"up": up, "down": down}, contents.file)
    return LoraLayer(up, down, change.alpha)


def _change(family: families.Family, stored: LayerTensors) -> LoraLayer:
    """The layer's change in float64, with its scalar and the norms of a DoRA."""
    change = family.change(stored)
    if "scalar" in stored.tensors:  # old LyCORIS files store this factor separately
        change = LoraLayer(change.up * stored.tensors["scalar"].item(), change.down, change.alpha)
    return dora.apply_norms(stored, change) if families.is_dora(stored.tensors) else change


def _check_finite(layer: str, tensors: Mapping[Role, Tensor], file: str) -> None:
    for tensor in tensors.values():
        if not tensor.isfinite().all():
            raise not_finite_error(file, layer)


def _alpha(
    layer: str, tensors: Mapping[Role, Tensor], rank: int, contents: Contents
) -> float | None:
    """alpha of a layer: its tensor, else by PEFT's settings, else None.

    A tensor of 0 is no alpha, as kohya and LyCORIS have it; in PEFT's settings 0 is no change.
    """
    if "alpha" in tensors:
        return tensors["alpha"].item() or None
    alpha = contents.settings.alpha(layer, rank)
    if alpha is not None and not isfinite(alpha):
        raise MergeError(
            f"{contents.file}: layer {layer} has an alpha that is no finite number; save the LoRA "
            "again with diffusers."
        )
    return alpha
