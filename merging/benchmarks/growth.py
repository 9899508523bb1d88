"""How the time of a merge grows with the number of LoRAs and with their rank.

Measured on a model with the shapes of SD 1.5, for the text encoder and K and V of cross-attention:
these layers need no pictures, so that sixteen LoRAs can be measured without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from merging.analysis.plots import picture
from merging.benchmarks.merge_speed import bench
from merging.diffusion.random_sd15 import random_adapter, random_sd15
from merging.presets import preset_options
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, part, prefixed, silent

SAMPLES = 30  # default prompts per LoRA: enough rows for the solver to use products
COUNTS, RANKS = (2, 4, 8, 16), (4, 16, 64, 128)
COUNT, RANK = 2, 16  # the fixed value while the other grows
MARKS = (".attn2.to_k", ".attn2.to_v")


def bench_growth(samples: int, device: str, progress: Progress = silent) -> dict[str, Any]:
    """Seconds of one pass, and the ratio to the bare doubled forward pass, for JSON."""
    base = random_sd15(device=device)
    cases = [(count, RANK) for count in COUNTS]
    cases += [(COUNT, rank) for rank in RANKS if rank != RANK]
    rows = []
    for place, (count, rank) in enumerate(cases):
        share = part(progress, place / len(cases), (place + 1) / len(cases))
        row_progress = prefixed(share, f"{count} LoRAs of rank {rank}")
        adapters = [random_adapter(base, MARKS, rank, seed) for seed in range(count)]
        sources = tuple(map(Source, adapters))
        options = {**preset_options("paper"), "samples": samples, "targets": "cross-attention"}
        request = MergeRequest(sources, **options)
        row = bench(base, request, 1, rounds=0, progress=row_progress)["rows"]["lockstep, one pass"]
        seconds = {key: row[key] for key in ("seconds", "ratio")}
        rows.append({"loras": count, "rank": rank, **seconds})
    return {
        "samples": samples,
        "layers": len(adapters[0].layers),
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }


def growth_table(result: dict[str, Any]) -> str:
    """The result in Markdown; seconds per LoRA are relative to the first row."""
    lines = [
        f"SD 1.5 in shape, {result['layers']} layers (text encoder, K and V of cross-attention), "
        f"{result['samples']} prompts each, {result['device']}, {result['threads']} threads",
        "",
        "| LoRAs | rank | seconds | seconds per LoRA, first row = 1 | against the limit |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = result["rows"][0]["seconds"] / result["rows"][0]["loras"]
    for row in result["rows"]:
        share = row["seconds"] / row["loras"] / first
        measured = f"{row['seconds']:.1f} | {share:.2f} | {row['ratio']:.2f}"
        lines.append(f"| {row['loras']} | {row['rank']} | {measured} |")
    return "\n".join(lines)


def growth_plot(result: dict[str, Any]) -> Image.Image:
    """Seconds by number of LoRAs and by rank, with straight lines through the first values."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_count, by_rank = figure.subplots(1, 2)
    rows = result["rows"]
    _draw(by_count, [row for row in rows if row["rank"] == RANK], "loras", "LoRAs")
    _draw(by_rank, [row for row in rows if row["loras"] == COUNT], "rank", "rank of each LoRA")
    return picture(figure)


def _draw(axes: Axes, rows: Sequence[dict[str, Any]], key: str, label: str) -> None:
    places = sorted((row[key], row["seconds"]) for row in rows)
    at, seconds = zip(*places, strict=True)
    axes.plot(at, seconds, marker="o", color="#7a3fd9", label="one pass")
    line = [seconds[0] * x / at[0] for x in at]
    axes.plot(at, line, linestyle="--", color="#9aa0a6", label="in proportion")
    axes.set_xlabel(label)
    axes.set_ylabel("seconds")
    axes.legend(fontsize="small")
