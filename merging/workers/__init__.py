"""Workers: other processes, on this machine or on a Ray cluster, that share a list of tasks."""

from __future__ import annotations

from typing import Literal

from merging.errors import MergeError
from merging.workers.work import Work as Work
from merging.workers.work import Workers as Workers

Place = Literal["local", "ray"]


def workers_of(place: Place, slots: int, address: str = "", device: str = "auto") -> Workers | None:
    """As many as are asked for; None means this process itself.

    ``device`` is what a task needs of a machine of the cluster. MergeError if Ray is missing, or
    its cluster cannot be reached.
    """
    if slots < 1:
        raise MergeError(f"There must be at least one slot, not {slots}.")
    if place == "local":
        from merging.workers.processes import Processes

        return Processes(slots) if slots > 1 else None
    try:
        from merging.workers.cluster import RayTasks
    except ModuleNotFoundError as error:
        raise MergeError(
            "The executor ray needs a package that is not installed: "
            "pip install -r requirements-ray.txt."
        ) from error
    return RayTasks(slots, address, device)
