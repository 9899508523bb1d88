"""How long something takes, as a person would say it."""

from __future__ import annotations

MINUTE, HOUR = 60, 3600


def rounded(seconds: float) -> str:
    """``8 s``, ``40 s``, ``3 min`` or ``2 h``: a tenth more or less makes no difference."""
    if seconds < 10:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 1.5 * MINUTE:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h"
