"""A pool of threads that use one core each, to merge layers in parallel."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch may use threads; inside a worker, torch uses one.

    Factorisations of a few hundred rows gain little from a second core, and lose most of their time
    where other Python threads have OpenMP threads as well, as in a web app. The results do not
    depend on the number of cores.
    """
    count = torch.get_num_threads()
    ready = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread sets its number to the default
        torch.set_num_threads(1)  # sets this thread's number, and the default of new threads
        ready.wait()

    with ThreadPoolExecutor(count, initializer=begin) as pool:
        for _ in range(count):
            pool.submit(int)
        ready.wait()
        torch.set_num_threads(count)
        yield pool
