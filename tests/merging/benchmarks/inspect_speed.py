"""How long `inspect` takes on a large file: ``python -m tests.merging.benchmarks.inspect_speed``.

The limit, in the same run and in turns: a process that has safetensors open the file and list its
keys. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from merging.benchmarks.machine import machine
from tests.conftest import ROOT
from tests.merging.formats.handmade import large

TURNS = 9
LISTED = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], "np") as file:
    print(*file.keys())
"""
LIMIT = "safetensors opens it and lists its keys"
WAYS = {
    "Python starts": ["-c", ""],
    LIMIT: ["-c", LISTED],
    "`python -m merging inspect`": ["-m", "merging", "inspect"],
}


def measure(path: Path) -> dict[str, float]:
    """Seconds of a whole process each way, the fastest of some turns.

    Modules are compiled in the first turn and kept beside the file, as Python usually does.
    """
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": str(path.parent)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    turns = [
        {way: seconds([*arguments, str(path)], environ) for way, arguments in WAYS.items()}
        for _ in range(TURNS)
    ]
    return {way: min(turn[way] for turn in turns) for way in WAYS}


def seconds(arguments: list[str], environ: dict[str, str]) -> float:
    """From the start of one process to its end."""
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def table(times: dict[str, float]) -> str:
    """The result in Markdown."""
    rows = [f"| {way} | {value:.3f} | {value / times[LIMIT]:.2f} |" for way, value in times.items()]
    return "\n".join(["| | seconds | against the limit |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = large(Path(folder) / "large.safetensors")
        print(f"A LoRA of rank 128 for every layer, {file.stat().st_size / 2**20:.0f} MiB\n")
        print(table(measure(file)))
    print(f"\nMeasured on {machine('cpu')}; `python -m tests.merging.benchmarks.inspect_speed`.")
