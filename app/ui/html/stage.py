"""The stage: loaded together and merged side by side, everything else small below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.schemas.draw import Picture
from app.ui.html.rendering import render_template

Address = Callable[[Path], str]  # where the browser finds a file
PLACE = re.compile(r"(prompt|seed) \d+")  # parts of a caption that the stage shows otherwise


@dataclass(frozen=True)
class Scene:
    """The pictures of one prompt, seed by seed."""

    prompt: str
    together: list[Picture]
    merged: list[Picture]
    small: list[Picture]


def stage_html(drawn: Sequence[Picture], address: Address, waiting: bool = False) -> str:
    """All pictures so far; ``waiting`` leaves room for the merge's."""
    seeds = list(dict.fromkeys(picture.seed for picture in drawn))
    return render_template(
        "stage",
        scenes=scenes(drawn),
        address=address,
        title=title,
        waiting=waiting,
        seeds=seeds,
        several=len(seeds) > 1,
    )


def scenes(drawn: Sequence[Picture]) -> list[Scene]:
    """The pictures by prompt, in the order in which they come."""
    by_prompt: dict[str, Scene] = {}
    for picture in drawn:
        scene = by_prompt.setdefault(picture.prompt, Scene(picture.prompt, [], [], []))
        large = {"sum": scene.together, "merged": scene.merged}
        large.get(picture.column, scene.small).append(picture)
    return list(by_prompt.values())


def title(picture: Picture, named: bool = True) -> str:
    """Title and scores of a picture, or its scores alone."""
    _, *parts = picture.caption.split(" · ")
    scores = [part for part in parts if not PLACE.fullmatch(part)]
    name = "Merged" if picture.column == "merged" else picture.title
    return " · ".join([*([name] if named else []), *scores])
