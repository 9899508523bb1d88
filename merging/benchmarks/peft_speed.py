"""Speed of a merge by sum compared with peft: two rank-128 LoRAs of SD 1.5, truncated to rank 128.

peft builds every (out, in) change and takes its dense SVD; this project takes the Gram matrices of
the stacked factors and the eigenvectors of the small core. All run in one process, peft with its
default (full matrices) and with its faster setting (thin SVD, the same result).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from merging.adapter import Adapter, LoraLayer
from merging.engine import MergeResult, merge
from merging.formats.layer_tables import flat, table
from merging.request import MergeRequest, Source
from merging.runtime.phases import mebibytes, peak_bytes, reset_peak
from merging.runtime.progress import Progress, part, silent

RANK = 128
DECAY = 0.97  # between rank components, as in trained LoRAs
MARKS = (".attentions.", "text_encoder.")
NAMES = ("one", "two")
PEFT = {"peft, svd": True, "peft, svd, svd_full_matrices=False": False}


def bench_weights(progress: Progress = silent) -> dict[str, Any]:
    """Seconds and peak memory of both, and the largest difference of the deltas, for JSON."""
    pair = [_adapter(name, seed) for seed, name in enumerate(NAMES)]
    request = MergeRequest(tuple(map(Source, pair)), method="sum", rank=RANK)
    result, our_row = _measure(lambda: merge(request, progress=part(progress, 0.0, 0.1)))
    model = _peft_model(pair)
    peft_rows: dict[str, dict[str, Any]] = {}
    for name, full in PEFT.items():
        progress((1 + len(peft_rows)) / 3, name)
        peft_rows[name] = _measure(partial(_merge_with_peft, model, full))[1]
    return {
        "modules": len(pair[0].layers),
        "rank": RANK,
        "threads": torch.get_num_threads(),
        "rows": {"IterIS Studio, sum cut to that rank": our_row} | peft_rows,
        "ratios": {name: row["seconds"] / our_row["seconds"] for name, row in peft_rows.items()},
        "apart": max(
            _relative_difference(result.adapter.layers[layer], up, down)
            for layer, up, down in _merged_by_peft(model, pair)
        ),
    }


def weights_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [f"Two LoRAs, {result['modules']} modules, rank {result['rank']}, cpu", ""]
    lines += ["| | seconds | peak memory above the start |", "| --- | --- | --- |"]
    for name, row in result["rows"].items():
        lines.append(f"| {name} | {row['seconds']:.1f} | {mebibytes(row['bytes'])} |")
    times = " and ".join(f"{ratio:.0f}" for ratio in result["ratios"].values())
    lines.append(f"\n{times} times as fast; the deltas are at most {result['apart']:.0e} apart.")
    return "\n".join(lines)


def _measure(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """The result of the work, its seconds, and its peak memory above the start."""
    reset_peak()
    before, started = peak_bytes(), time.perf_counter()
    result = work()
    seconds, peaks = time.perf_counter() - started, [peak_bytes()]
    if isinstance(result, MergeResult):  # every phase of a merge resets the peak
        peaks += [phase.peak_bytes for phase in result.report.phases.values()]
    known = [peak for peak in peaks if peak is not None]
    peak = None if before is None or not known else max(known) - before
    return result, {"seconds": seconds, "bytes": peak}


def _adapter(name: str, seed: int) -> Adapter:
    """Random factors of decreasing size for the modules that kohya trains by default."""
    generator = torch.Generator().manual_seed(seed)
    sizes = DECAY ** torch.arange(RANK)
    layers = {}
    for layer, shape in table("sd15").shapes.items():
        if any(mark in layer for mark in MARKS):
            out, width = flat(shape)
            up = torch.randn(out, RANK, generator=generator) * sizes
            layers[layer] = LoraLayer(up, torch.randn(RANK, width, generator=generator), RANK)
    return Adapter(name, layers, base="sd15", sha256=name)


def _peft_model(pair: list[Adapter]) -> PeftModel:
    """The same LoRAs in peft, on bare linear layers whose weights do not matter."""
    layers = {
        layer.replace(".", "-"): nn.Linear(
            layer_factors.down.shape[1], layer_factors.up.shape[0], bias=False
        )
        for layer, layer_factors in pair[0].layers.items()
    }
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(layers))
    model = get_peft_model(nn.ModuleDict(layers), config, adapter_name=NAMES[0])
    model.add_adapter(NAMES[1], config)
    for adapter in pair:
        for layer, layer_factors in adapter.layers.items():
            module = model.get_submodule(f"base_model.model.{layer.replace('.', '-')}")
            module.lora_A[adapter.name].weight.data.copy_(layer_factors.down)
            module.lora_B[adapter.name].weight.data.copy_(layer_factors.up)
    return model


def _merge_with_peft(model: PeftModel, full: bool) -> None:
    model.add_weighted_adapter(
        list(NAMES),
        [1.0, 1.0],
        "full" if full else "thin",
        combination_type="svd",
        svd_rank=RANK,
        svd_full_matrices=full,
    )


def _merged_by_peft(model: PeftModel, pair: list[Adapter]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Layer, up and down of peft's thin merge, with its scale in up."""
    for layer in pair[0].layers:
        module = model.get_submodule(f"base_model.model.{layer.replace('.', '-')}")
        up = module.lora_B["thin"].weight.detach() * module.scaling["thin"]
        yield layer, up, module.lora_A["thin"].weight.detach()


def _relative_difference(ours: LoraLayer, up: Tensor, down: Tensor) -> float:
    """‖Δ − Δ'‖ / ‖Δ‖, in float64."""
    delta = ours.scale * ours.up.double() @ ours.down.double()
    return ((delta - up.double() @ down.double()).norm() / delta.norm()).item()
