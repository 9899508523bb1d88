"""Failed allocations become sentences; other faults stay what they are."""

from __future__ import annotations

import sys

import pytest
import torch

from merging.errors import MergeError
from merging.runtime.memory import free_bytes, out_of_memory_told


def test_a_real_failed_allocation_names_the_remedy() -> None:
    sentence = pytest.raises(MergeError, match=r"The merge ran out of memory; take fewer\.")
    with sentence, out_of_memory_told("The merge", "take fewer"):
        torch.empty(2**50)


def test_free_memory_is_told_where_the_system_does() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None if sys.platform != "linux" else 2**20 < free < 2**50


def test_other_faults_are_not_hidden() -> None:
    fault = pytest.raises(RuntimeError, match="shapes cannot be multiplied")
    with fault, out_of_memory_told("The merge", "take fewer"):
        torch.ones(2, 3) @ torch.ones(2, 3)
