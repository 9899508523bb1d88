"""Out of memory, said as what to lower instead of as a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from merging.errors import MergeError


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
