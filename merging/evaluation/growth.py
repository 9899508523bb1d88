"""How a merge's time grows: with the number of LoRAs, and with their rank.

On SD 1.5 in shape, text encoder and cross-attention's K and V: the layers that prompts alone reach,
so that sixteen LoRAs can be measured where no GPU is at hand.
"""

from __future__ import annotations

from typing import Any

import torch

from merging.diffusion.shapes import random_adapter, random_sd15
from merging.evaluation.speed import bench
from merging.progress import Progress, part, silent

COUNTS, RANKS = (2, 4, 8, 16), (4, 16, 64, 128)
COUNT, RANK = 2, 16  # what stays the same while the other grows
MARKS = (".attn2.to_k", ".attn2.to_v")


def bench_growth(samples: int, device: str, progress: Progress = silent) -> dict[str, Any]:
    """Seconds of one pass, and of the bare doubled forward pass beside it; JSON-able."""
    base = random_sd15(device=device)
    cases = [(count, RANK) for count in COUNTS]
    cases += [(COUNT, rank) for rank in RANKS if rank != RANK]
    rows = []
    for place, (count, rank) in enumerate(cases):
        ahead = part(progress, place / len(cases), (place + 1) / len(cases))
        ahead(0.0, f"{count} LoRAs of rank {rank}")
        adapters = [random_adapter(base, MARKS, rank, seed) for seed in range(count)]
        found = bench(base, adapters, samples, 1, "cross-attention", rounds=0)["rows"]
        row = found["lockstep, one pass"]
        rows.append({"loras": count, "rank": rank, **row})
    return {
        "samples": samples,
        "layers": len(adapters[0].layers),
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }


def growth_table(result: dict[str, Any]) -> str:
    """The result in Markdown; "per LoRA" is beside that of the first row."""
    lines = [
        f"{result['layers']} layers of SD 1.5's shape, {result['samples']} prompts each, "
        f"{result['device']}",
        "",
        "| LoRAs | rank | seconds | seconds per LoRA, first row = 1 | against the limit |",
        "| --- | --- | --- | --- | --- |",
    ]
    first = result["rows"][0]["seconds"] / result["rows"][0]["loras"]
    for row in result["rows"]:
        share = row["seconds"] / row["loras"] / first
        cells = (row["loras"], row["rank"], f"{row['seconds']:.1f}", f"{share:.2f}")
        lines.append("| " + " | ".join(map(str, cells)) + f" | {row['ratio']:.2f} |")
    return "\n".join(lines)
