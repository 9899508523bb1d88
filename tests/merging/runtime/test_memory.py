"""Failed allocations become MergeErrors; other exceptions pass through."""

from __future__ import annotations

import sys

import pytest
import torch

from merging.errors import MergeError
from merging.runtime.memory import explain_out_of_memory, free_bytes


def test_a_real_failed_allocation_names_the_remedy() -> None:
    merge_error = pytest.raises(MergeError, match=r"The merge ran out of memory; take fewer\.")
    with merge_error, explain_out_of_memory("The merge", "take fewer"):
        torch.empty(2**50)


def test_free_memory_is_known_on_linux() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None if sys.platform != "linux" else 2**20 < free < 2**50


def test_other_exceptions_are_not_hidden() -> None:
    shape_error = pytest.raises(RuntimeError, match="shapes cannot be multiplied")
    with shape_error, explain_out_of_memory("The merge", "take fewer"):
        torch.ones(2, 3) @ torch.ones(2, 3)
