"""Errors as plain data, which cross from one process to another with their sentence."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from merging.errors import Cancelled, FileError, MergeError
from merging.workers.work import Work


@dataclass(frozen=True)
class Failure:
    """An exception as data."""

    kind: Literal["stopped", "refused", "system", "memory", "defect"]
    text: str  # for the visitor, or of a defect its traceback for the log
    number: int = 0  # of the operating system's error, if there is one

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The exception that is being handled."""
        if isinstance(error, Cancelled):
            return cls("stopped", str(error))
        if isinstance(error, FileError):
            return cls("refused", str(error), error.system.errno or 0)
        if isinstance(error, MergeError):
            return cls("refused", str(error))
        if isinstance(error, OSError) and error.errno:
            return cls("system", str(error), error.errno)
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return cls("memory", str(error))
        return cls("defect", traceback.format_exc())

    def exception(self) -> Exception:
        """The same exception in this process."""
        system = OSError(self.number, os.strerror(self.number))
        if self.kind == "refused":
            return FileError(self.text, system) if self.number else MergeError(self.text)
        if self.kind == "system":
            return system
        kinds = {"stopped": Cancelled, "memory": MemoryError, "defect": RuntimeError}
        return kinds[self.kind](self.text)


def attempt(work: Work, number: int) -> Any:
    """The answer to a task, or its Failure."""
    try:
        return work.do(number)
    except Exception as error:  # noqa: BLE001 -- raised again where the answer arrives
        return Failure.of(error)


def checked(answer: Any) -> Any:
    """An answer that is none is raised."""
    if isinstance(answer, Failure):
        raise answer.exception()
    return answer
