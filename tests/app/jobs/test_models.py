"""Base models that jobs share: one thread at a time works with them."""

from __future__ import annotations

from app.jobs.models import Bases
from merging.diffusion.base import Base
from merging.runtime.progress import silent


def test_a_base_is_if_idle_between_jobs_alone() -> None:
    bases, seen = Bases("cpu"), list[Base | None]()
    base = bases.get("mini", "auto", silent)

    with bases.in_use(), bases.if_idle("mini", "auto") as during:
        seen.append(during)
    with bases.if_idle("mini", "auto") as after, bases.if_idle("mini", "auto") as twice:
        seen += [after, twice]
    with bases.if_idle("sd15", "auto") as other:
        seen.append(other)
    assert seen == [None, base, None, None]
    assert bases.get("mini", "auto", silent) is base
