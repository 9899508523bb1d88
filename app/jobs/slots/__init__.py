"""The slots of an executor: where tasks are done, by setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.jobs.slots.here import Here
from app.jobs.slots.slot import Slot
from app.settings.model import Settings
from merging.errors import MergeError

if TYPE_CHECKING:
    from app.jobs.engine import Engine


def slots_of(settings: Settings, engine: Callable[[], Engine]) -> list[Slot]:
    """As many slots as the settings ask for; a single local one is this process itself.

    MergeError if the executor's package is missing, or its cluster cannot be reached.
    """
    try:
        if settings.executor == "ray":
            from app.jobs.slots.cluster import ray_slots

            return ray_slots(settings)
        if settings.executor == "zerogpu":
            from app.jobs.slots.zerogpu import zerogpu_slots

            return zerogpu_slots(settings)
    except ModuleNotFoundError as error:
        raise MergeError(
            f"The executor {settings.executor} needs a package that is not installed: "
            f"pip install -r requirements-{settings.executor}.txt."
        ) from error
    if settings.slots == 1:
        return [Here(engine)]
    from app.jobs.slots.process import WorkerProcess

    return [WorkerProcess(settings, number) for number in range(settings.slots)]
