"""Parts of a job: their seconds without inner parts, and their peak memory."""

from __future__ import annotations

import mmap
import sys
import time

import pytest
import torch

from merging.runtime.phases import Phases, peak_bytes, reset_peak, watching_peak


def test_inner_parts_are_not_counted_twice() -> None:
    phases = Phases()
    started = time.perf_counter()
    with phases("outer"):
        time.sleep(0.02)
        for _ in range(2):
            with phases("inner"):
                time.sleep(0.05)
    total = time.perf_counter() - started
    outer, inner = phases.parts["outer"].seconds, phases.parts["inner"].seconds
    assert inner >= 0.1 and outer >= 0.02
    assert outer + inner == pytest.approx(total, abs=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports a part's peak")
def test_every_part_has_its_own_peak() -> None:
    phases = Phases()
    # Pages of its own: an array may get memory that the process still holds from before.
    with phases("large"), mmap.mmap(-1, 256 * 2**20) as pages:
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1
    with phases("small"):
        pass
    large, small = (phases.parts[name].peak_bytes for name in ("large", "small"))
    assert large is not None and small is not None
    assert large - small > 200 * 2**20


@pytest.mark.skipif(peak_bytes() is None, reason="the system reports no peak")
def test_a_watch_sees_the_most_memory_though_the_peak_is_reset() -> None:
    with watching_peak() as watch:
        large = torch.ones(40_000_000)  # 160 MB
        del large
        reset_peak()
        small = torch.ones(1000)
    assert small.sum() == 1000
    assert watch.most is not None and watch.most > 100_000_000
    before = watch.most
    another = torch.ones(80_000_000)
    reset_peak()
    assert another.any() and watch.most == before, "it is closed"
