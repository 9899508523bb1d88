"""How a process that works is started."""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


def start_context(*imported: str) -> ForkServerContext | SpawnContext:
    """Processes that begin without the threads and locks of this one, which a fork would copy.

    On Linux they are forks of a process that has imported these modules and started no thread, so
    that one which takes the place of another begins sooner; elsewhere each imports for itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*imported])
    return context
