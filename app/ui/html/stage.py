"""The stage: loaded together and merged side by side, everything else small below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.schemas.draw import Picture
from app.ui.html.rendering import render_template

Address = Callable[[Path], str]  # where the browser finds a file
LARGE = ("sum", "merged")  # columns that are shown large
PLACE = re.compile(r"(prompt|seed) \d+")  # parts of a caption that the stage shows otherwise


@dataclass(frozen=True)
class Scene:
    """The pictures of one prompt and seed."""

    prompt: str
    seed: int
    large: list[Picture]
    small: list[Picture]


def stage_html(drawn: Sequence[Picture], address: Address, waiting: bool = False) -> str:
    """All pictures so far; ``waiting`` leaves room for the merge's."""
    found = scenes(drawn)
    return render_template(
        "stage",
        scenes=found,
        address=address,
        title=title,
        waiting=waiting,
        several=len({scene.prompt for scene in found}) > 1,
    )


def scenes(drawn: Sequence[Picture]) -> list[Scene]:
    """The pictures by prompt and seed, in the order in which they were drawn."""
    found: dict[tuple[str, int], Scene] = {}
    for picture in drawn:
        place = picture.prompt, picture.seed
        scene = found.setdefault(place, Scene(*place, [], []))
        (scene.large if picture.column in LARGE else scene.small).append(picture)
    return list(found.values())


def title(picture: Picture) -> str:
    """Title and scores of a picture."""
    _, *parts = picture.caption.split(" · ")
    scores = [part for part in parts if not PLACE.fullmatch(part)]
    return " · ".join(["Merged" if picture.column == "merged" else picture.title, *scores])
