"""Workers on a Ray cluster: a Ray task for each task, with a GPU or a share of the cores.

Needs requirements-ray.txt. Files travel through Ray's object store, since the machines of a cluster
share no disk; the base model comes from each machine's own cache of the Hub.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import torch
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from merging.errors import MergeError
from merging.workers.failure import attempt, checked
from merging.workers.parcel import Files, Inbox, Parcel, files_at, pack
from merging.workers.work import ATTEMPTS, Work, given_up

TICK = 0.5  # seconds; how often Ctrl+C is looked for
PATIENCE = 10.0  # seconds to wait for an answer from a cluster's head


def join_cluster(address: str) -> None:
    """Join the cluster at an address, or start one of this machine alone; MergeError if none is."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise MergeError(
            f"There is no Ray cluster at “{address or 'this machine'}” ({error}): "
            "start it, or correct its address."
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there


def _knock(address: str) -> None:
    """OSError if nobody listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), PATIENCE).close()


def share(device: str, slots: int) -> dict[str, float]:
    """What one of so many workers takes of the cluster: a GPU, or its share of the cores."""
    resources = ray.cluster_resources()
    if device.startswith("cuda") or (device == "auto" and resources.get("GPU")):
        return {"num_gpus": 1}
    return {"num_cpus": min(1.0, resources.get("CPU", 1.0) / slots)}


class RayTasks:
    """So many Ray tasks at a time at most. Ray starts their processes, and keeps them for more."""

    def __init__(self, slots: int, address: str, device: str) -> None:
        self._slots = slots
        self._address = address
        self._device = device

    def answers(self, work: Work, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """As `Workers.answers`; joins the cluster, as `join_cluster`, and leaves it at the end.

        A cluster that scales itself grows by the tasks that find no place.
        """
        join_cluster(self._address)
        try:
            yield from self._answers(work, deque(numbers))
        finally:
            ray.shutdown()  # ends what is still at work

    def _answers(self, work: Work, waiting: deque[int]) -> Iterator[tuple[int, Any]]:
        parcel = pack(work)
        shared = ray.put((parcel, torch.get_num_threads()))
        sent = [ray.put(files_at(path)) for path in parcel.paths]
        task = ray.remote(max_retries=ATTEMPTS - 1, **share(self._device, self._slots))(_do)
        running = dict[Any, int]()
        while waiting or running:
            while waiting and len(running) < self._slots:
                number = waiting.popleft()
                running[task.remote(shared.hex(), [shared], sent, number)] = number
            ready, _ = ray.wait(list(running), timeout=TICK)
            for answer in ready:
                number = running.pop(answer)
                yield number, checked(_received(answer, number))


def _received(answer: Any, number: int) -> Any:
    try:
        return ray.get(answer)
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise given_up(number) from error


_KEPT: dict[str, tuple[Work, TemporaryDirectory[str]]] = {}  # in a worker: one, by its name


def _do(name: str, shared: Sequence[Any], sent: Sequence[Any], number: int) -> Any:
    """In the worker: the answer to a task. References in lists are not fetched before."""
    if name not in _KEPT:
        _KEPT.clear()  # its files go with it
        parcel, threads = ray.get(shared[0])
        _KEPT[name] = _unpacked(parcel, threads, ray.get(list(sent)))
    return attempt(_KEPT[name][0], number)


def _unpacked(
    parcel: Parcel, threads: int, contents: Sequence[Files]
) -> tuple[Work, TemporaryDirectory[str]]:
    """The work with its files in place, and their folder."""
    torch.set_num_threads(threads)  # their number shows in the last digits of a picture
    folder = TemporaryDirectory(prefix="iteris-ray-")
    inbox = Inbox(Path(folder.name))
    return parcel.unpack(inbox.places(parcel.paths, contents)), folder
