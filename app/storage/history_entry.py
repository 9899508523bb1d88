"""An entry of the history, as a list shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

FIELDS = "id, made, pinned, merge, sheet"


@dataclass(frozen=True)
class HistoryEntry:
    """An entry: a merge, or a merge and the pictures of one press of the button."""

    id: int
    made: float  # seconds since 1970
    method: str  # its title
    loras: tuple[tuple[str, float], ...]  # name, strength
    base: str
    ranks: str
    pinned: bool = False  # not deleted by the limit
    prompt: str = ""  # of the pictures, "" where none were drawn
    seed: int = 0
    pictures: int = 0
    thumbnails: tuple[tuple[str, str], ...] = ()  # caption, data URL
    of_the_merge: int | None = None  # the index of the merge's own thumbnail

    @property
    def title(self) -> str:
        """The entry's title in lists."""
        return f"{self.method} of {' + '.join(name for name, _ in self.loras)}"

    @property
    def name(self) -> str:
        """The title with strengths that are not 1, and with the entry's number."""
        parts = [
            name if strength == 1 else f"{name} at {strength:g}" for name, strength in self.loras
        ]
        return f"{self.method} of {' + '.join(parts)}, no. {self.id}"


def entry_of(id: int, made: float, pinned: int, merge: str, sheet: str) -> HistoryEntry:
    """The entry of a row with FIELDS."""
    merge_parts, drawn = json.loads(merge), json.loads(sheet)
    order, merged = merge_parts["order"], merge_parts["merged"]
    entry = HistoryEntry(
        id=id,
        made=made,
        method=merged["method"],
        loras=tuple((lora["name"], lora["strength"]) for lora in merge_parts["recipe"]["sources"]),
        base=order["base"],
        ranks=merged["ranks"],
        pinned=bool(pinned),
    )
    if not drawn:
        return entry
    scene, thumbnails = drawn["scene"], tuple(map(tuple, drawn["thumbnails"]))
    last = len(thumbnails) - 1 - len(scene.get("others", ()))  # other merges come after it
    return replace(
        entry,
        prompt=scene["prompt"],
        seed=scene["seed"],
        pictures=len(drawn["pictures"]),
        thumbnails=thumbnails,
        of_the_merge=last if "merged" in scene["columns"] else None,
    )
