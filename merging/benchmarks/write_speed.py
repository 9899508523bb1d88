"""Time and memory to write and check a merge of Stable Diffusion 1.5's 264 usual layers.

Every format is written by a process of its own, whose highest memory counts, PyTorch included.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from merging.adapter import Adapter, LoraLayer
from merging.formats.layer_tables import flat, table
from merging.formats.writer import DTYPES, WRITERS
from merging.runtime.progress import Progress, silent

RANK = 16  # two LoRAs of rank 8
PARTS = (".attentions.", "text_encoder.")  # what sd-scripts trains by default


def bench_writing(
    layers: int | None = None, dtype: str = "fp16", progress: Progress = silent
) -> dict[str, Any]:
    """Seconds, bytes and highest memory of every format, for JSON; ``layers`` None is all."""
    rows = {}
    for place, form in enumerate(WRITERS):
        progress(place / len(WRITERS), f"writing {form}")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows[form] = pool.submit(_measure, form, dtype, layers).result()
    return {"layers": len(_adapter(layers).layers), "rank": RANK, "dtype": dtype, "rows": rows}


def writing_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        f"SD 1.5 in shape, {result['layers']} layers of rank {result['rank']}, {result['dtype']}",
        "",
        "| format | seconds | file, MB | highest memory, GB |",
        "| --- | --- | --- | --- |",
    ]
    for form, row in result["rows"].items():
        size, peak = row["bytes"] / 1e6, row["memory"] / 1e9
        lines.append(f"| {form} | {row['seconds']:.1f} | {size:.1f} | {peak:.2f} |")
    return "\n".join(lines)


def _measure(form: str, dtype: str, layers: int | None) -> dict[str, float]:
    """Write one file and read it back; in a process that does nothing else."""
    adapter = _adapter(layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merged.safetensors"
        started = time.perf_counter()
        WRITERS[form](adapter, path, DTYPES[dtype])
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "bytes": path.stat().st_size, "memory": _highest_memory()}


def _highest_memory() -> int:
    """Bytes that this process had at most, on Linux; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak * 1024


def _adapter(layers: int | None) -> Adapter:
    """Random factors for the layers."""
    shapes = table("sd15").shapes
    names = [name for name in shapes if any(part in name for part in PARTS)][:layers]
    generator = torch.Generator().manual_seed(0)

    def layer(name: str) -> LoraLayer:
        height, width = flat(shapes[name])
        up, down = torch.randn(height, RANK, generator=generator), torch.randn(RANK, width)
        return LoraLayer(0.01 * up, 0.1 * down, float(RANK))

    return Adapter("random", {name: layer(name) for name in names}, "sd15")
