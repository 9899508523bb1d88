"""The header of a written file, as model browsers, loaders and kohya's tools expect it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from merging.adapter import Adapter
from merging.base_models import base_model
from merging.formats.half_precision import FactorPair
from merging.formats.layer_tables import LayerTable
from merging.formats.peft_settings import CONFIG_KEY


def kohya_header(
    adapter: Adapter,
    table: LayerTable,
    pairs: Mapping[str, FactorPair],
    alpha: float,
    metadata: Mapping[str, str],
) -> dict[str, str]:
    """All fields of a kohya file but its hashes; ``metadata`` overrides all but the dimensions."""
    ranks = {pair.rank for pair in pairs.values()}
    fields = _description(adapter, table) | dict(metadata)
    dimensions = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": f"{ranks.pop()}" if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{alpha:g}",
    }
    kernels = {pairs[layer].rank for layer in pairs if _has_kernel(table.shapes[layer])}
    if kernels:
        sizes = {"conv_dim": f"{max(kernels)}", "conv_alpha": f"{alpha:g}"}
        dimensions["ss_network_args"] = json.dumps(sizes)
    # diffusers refuses a file that has both alphas and PEFT's settings
    fields.pop(CONFIG_KEY, None)
    return _without_empty(fields) | dimensions


def full_header(adapter: Adapter, table: LayerTable, metadata: Mapping[str, str]) -> dict[str, str]:
    """All fields of a file of full differences but its hashes, as LyCORIS names them."""
    fields = _description(adapter, table) | dict(metadata)
    fields.pop(CONFIG_KEY, None)
    network = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "full"}'}
    return _without_empty(fields) | network


def diffusers_header(
    adapter: Adapter, table: LayerTable, metadata: Mapping[str, str]
) -> dict[str, str]:
    """Fields of a diffusers file; transformers and diffusers require ``format``."""
    return _without_empty(_description(adapter, table) | dict(metadata)) | {"format": "pt"}


def _description(adapter: Adapter, table: LayerTable) -> dict[str, str]:
    return dict(base_model(table.name).header) | {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",  # sd-scripts' value for LoRAs of SD 1
        "modelspec.prediction_type": "epsilon",
        "modelspec.title": adapter.name,
        "ss_output_name": adapter.name,  # the file's: A1111 may call the LoRA by it
        "modelspec.trigger_phrase": adapter.trigger,
    }


def _has_kernel(shape: tuple[int, ...]) -> bool:
    """Whether a layer is a convolution over more than one pixel."""
    return shape[2:] not in ((), (1, 1))


def _without_empty(fields: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value}
