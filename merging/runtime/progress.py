"""How long work speaks to whoever started it: two callables, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from merging.errors import Cancelled

Progress = Callable[[float, str], None]  # (share done in [0, 1], what is going on, in words)
Stop = Callable[[], bool]  # True once the user wants no more


def silent(_share: float, _text: str) -> None:
    """A progress that nobody watches."""


def never() -> bool:
    """A stop that never comes."""
    return False


def check(stop: Stop) -> None:
    """Raise Cancelled if the user has asked to stop."""
    if stop():
        raise Cancelled("stopped")


def part(progress: Progress, start: float, end: float) -> Progress:
    """A progress over [0, 1] that fills [start, end] of another one."""
    return lambda share, text: progress(start + (end - start) * share, text)


def saying(progress: Progress, words: str) -> Progress:
    """The same progress, its text after the words that say which part it is of."""
    return lambda share, text: progress(share, f"{words}, {text}")
