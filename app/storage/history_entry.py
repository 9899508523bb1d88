"""An entry of the history, as a list shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

FIELDS = "id, made, pinned, merge, sheet"


@dataclass(frozen=True)
class Entry:
    """One press of a button, as a list shows it."""

    id: int
    made: float  # seconds since 1970
    method: str  # its title
    loras: tuple[tuple[str, float], ...]  # name, strength
    base: str
    ranks: str
    pinned: bool = False  # the limit never takes it
    prompt: str = ""  # of the pictures, "" where none were drawn
    seed: int = 0
    pictures: int = 0
    thumbnails: tuple[tuple[str, str], ...] = ()  # caption, data URL
    of_the_merge: int | None = None  # which of them, if any, is the merge's own

    @property
    def title(self) -> str:
        """What a list calls it."""
        return f"{self.method} of {' + '.join(name for name, _ in self.loras)}"

    @property
    def name(self) -> str:
        """Its title, told from all others by its number, with strengths that are not 1."""
        parts = [
            name if strength == 1 else f"{name} at {strength:g}" for name, strength in self.loras
        ]
        return f"{self.method} of {' + '.join(parts)}, no. {self.id}"


def entry_of(id: int, made: float, pinned: int, merge: str, sheet: str) -> Entry:
    """A row of FIELDS in words."""
    told, drawn = json.loads(merge), json.loads(sheet)
    order, merged = told["order"], told["merged"]
    entry = Entry(
        id=id,
        made=made,
        method=merged["method"],
        loras=tuple((source["name"], source["strength"]) for source in told["recipe"]["sources"]),
        base=order["base"],
        ranks=merged["ranks"],
        pinned=bool(pinned),
    )
    if not drawn:
        return entry
    scene, thumbnails = drawn["scene"], tuple(map(tuple, drawn["thumbnails"]))
    last = len(thumbnails) - 1 - len(scene.get("others", ()))  # other merges come behind it
    return replace(
        entry,
        prompt=scene["prompt"],
        seed=scene["seed"],
        pictures=len(drawn["pictures"]),
        thumbnails=thumbnails,
        of_the_merge=last if "merged" in scene["columns"] else None,
    )
