"""Out of memory, said as what to lower instead of as a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from merging.errors import MergeError

MEMORY = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int | None:
    """What may still be taken on the device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found and device.type == "cpu" else None


@contextmanager
def out_of_memory_told(what: str, remedy: str) -> Iterator[None]:
    """Turn a failed allocation, on the CPU or a GPU, into a MergeError that names the remedy."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _told(what, remedy) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _told(what, remedy) from error


def _told(what: str, remedy: str) -> MergeError:
    return MergeError(f"{what} ran out of memory; {remedy}.")
