"""Layers side by side: threads that keep one core each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch may use, each of them computing with one.

    Factorisations of a few hundred rows gain little from a second core, and lose most of their time
    to it where other Python threads keep OpenMP threads of their own, as in a web app. And what one
    thread computes does not depend on how many cores there are.
    """
    count = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets it to what new threads get
        torch.set_num_threads(1)  # this one's number, but also what new threads get
        ready.wait()

    with ThreadPoolExecutor(count, initializer=begin) as pool:
        for _ in range(count):
            pool.submit(int)
        ready.wait()
        torch.set_num_threads(count)
        yield pool
