"""Free memory, and a clear error when it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from merging.errors import MergeError

MEMORY_INFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int | None:
    """Free memory of the device; None where the system does not report it."""
    if device.type == "cuda":
        return _free_on_gpu(device)
    try:
        lines = MEMORY_INFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes and device.type == "cpu" else None


def _free_on_gpu(device: torch.device) -> int:
    """What torch may still take, with what it keeps for later use, within the share it may have."""
    free, total = torch.cuda.mem_get_info(device)
    used = torch.cuda.memory_allocated(device)
    spare = torch.cuda.memory_reserved(device) - used
    share = torch.cuda.get_per_process_memory_fraction(device)
    return min(free + spare, int(share * total) - used)


@contextmanager
def explain_out_of_memory(task: str, remedy: str) -> Iterator[None]:
    """Turn a failed allocation, on the CPU or a GPU, into a MergeError with the remedy."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _memory_error(task, remedy) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _memory_error(task, remedy) from error


def _memory_error(task: str, remedy: str) -> MergeError:
    return MergeError(f"{task} ran out of memory; {remedy}.")
