"""Progress and cancellation of long jobs: two callables that are passed down to the work."""

from __future__ import annotations

from collections.abc import Callable

from merging.errors import Cancelled

Progress = Callable[[float, str], None]  # (share done in [0, 1], text of the current step)
Stop = Callable[[], bool]  # True once the user has asked to stop


def silent(_share: float, _text: str) -> None:
    """A progress that shows nothing."""


def never() -> bool:
    """A stop that never comes."""
    return False


def check(stop: Stop) -> None:
    """Raise Cancelled if the user has asked to stop."""
    if stop():
        raise Cancelled("stopped")


def part(progress: Progress, start: float, end: float) -> Progress:
    """A progress whose [0, 1] is [start, end] of another one."""
    return lambda share, text: progress(start + (end - start) * share, text)


def prefixed(progress: Progress, prefix: str) -> Progress:
    """The same progress with ``prefix`` in front of its texts."""
    return lambda share, text: progress(share, f"{prefix}, {text}")
