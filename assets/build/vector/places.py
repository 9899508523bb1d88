"""Backgrounds that are places, drawn as vectors: each time another one, none with an object in it.

A place has a ground to stand on (`FLOOR`, the rows where things stand) and words to ask for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from assets.build.vector import drawings

SIZE = 128
FLOOR = (100, 118)  # rows in which the feet of things stand


@dataclass(frozen=True)
class Place:
    """How a place is drawn, as the inside of an SVG of 128 × 128, and how it is asked for."""

    draw: Callable[[random.Random], str]
    words: tuple[str, ...]


def picture(rng: random.Random, name: str) -> Image.Image:
    """One view of the place, RGB."""
    inside = PLACES[name].draw(rng)
    box = f'viewBox="0 0 {SIZE} {SIZE}" width="{SIZE}" height="{SIZE}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{inside}</svg>'
    return drawings.picture(svg).convert("RGB")


def meadow(rng: random.Random) -> str:
    """Grass below a blue sky, with two hills, clouds and blades."""
    horizon = rng.uniform(66, 80)
    parts = [_gradient("sky", "#5fb4f0", "#cdeafc"), _gradient("grass", "#8fd05a", "#4c9a3a")]
    parts += [_band("url(#sky)", 0, SIZE), *_clouds(rng, 2, horizon - 20)]
    parts.append(_hill(rng, horizon - rng.uniform(2, 10), 8, "#7cc267"))
    parts.append(_hill(rng, horizon, 4, "url(#grass)"))
    for _ in range(26):
        x, y = rng.uniform(0, SIZE), rng.uniform(horizon + 12, SIZE)
        parts.append(_line(x, y, x + rng.uniform(-2, 2), y - rng.uniform(3, 6), "#3f8a34", 1.2))
    return "".join(parts)


def sea(rng: random.Random) -> str:
    """Water with crests of waves up to the horizon, sand in front."""
    horizon, beach = rng.uniform(48, 60), rng.uniform(94, 104)
    parts = [_gradient("sky", "#8fd3f4", "#fdf3dc"), _gradient("water", "#1f7fb8", "#4fc3d0")]
    parts += [_band("url(#sky)", 0, SIZE), *_clouds(rng, 1, horizon - 18)]
    parts.append(_band("url(#water)", horizon, SIZE))
    for _ in range(16):
        x, y = rng.uniform(-5, SIZE), rng.uniform(horizon + 4, beach - 5)
        wide = 4 + (y - horizon) * 0.22
        path = f"M{x:.1f} {y:.1f}q{wide / 2:.1f} -3 {wide:.1f} 0q{wide / 2:.1f} -3 {wide:.1f} 0"
        parts.append(f'<path d="{path}" fill="none" stroke="#d9f4f7" stroke-width="1.3"/>')
    parts.append(_hill(rng, beach - 2, 3, "#f4fbfa"))
    parts.append(_hill(rng, beach, 3, "#ecd196"))
    return "".join(parts)


def snow(rng: random.Random) -> str:
    """White ground and mountains under a pale sky, with flakes in the air."""
    horizon = rng.uniform(70, 82)
    parts = [_gradient("sky", "#9db7cf", "#e3edf5"), _gradient("ground", "#ffffff", "#d5e4f1")]
    parts.append(_band("url(#sky)", 0, SIZE))
    for _ in range(3):
        x, high, half = rng.uniform(0, SIZE), rng.uniform(24, 46), rng.uniform(24, 40)
        parts.append(_peak(x, horizon, high, half, "#7f9bb6"))
        parts.append(_peak(x, horizon - 0.62 * high, 0.38 * high, 0.38 * half, "#ffffff"))
    parts.append(_hill(rng, horizon, 5, "url(#ground)"))
    for _ in range(34):
        parts.append(_disc(rng, SIZE, rng.uniform(0.8, 2.0), "#ffffff"))
    return "".join(parts)


def night(rng: random.Random) -> str:
    """A dark blue sky full of small stars over dark hills."""
    horizon = rng.uniform(84, 96)
    parts = [_gradient("sky", "#0b1238", "#38407c"), _band("url(#sky)", 0, SIZE)]
    for _ in range(46):
        parts.append(_disc(rng, horizon, rng.uniform(0.5, 1.5), rng.choice(("#ffffff", "#ffeeb0"))))
    parts.append(_hill(rng, horizon - 5, 8, "#1d2450"))
    parts.append(_hill(rng, horizon + 5, 5, "#101633"))
    return "".join(parts)


def table(rng: random.Random) -> str:
    """A wooden table top, seen from the front, before a wall."""
    edge = rng.uniform(74, 84)
    wall, shade = rng.choice(
        (("#dfe7e2", "#c3cfc9"), ("#f0e0d0", "#dac3ac"), ("#d6deec", "#b7c2d8"))
    )
    parts = [_gradient("wall", wall, shade), _band("url(#wall)", 0, SIZE)]
    parts += [_gradient("wood", "#b9814b", "#9a6334"), _band("url(#wood)", edge, 120)]
    for _ in range(9):
        y, x = rng.uniform(edge + 4, 117), rng.uniform(-20, 100)
        parts.append(_line(x, y, x + rng.uniform(20, 60), y, "#87552b", 1.1))
    parts += [_band("#d9a56b", edge, edge + 2.5), _band("#6f4322", 120, SIZE)]
    return "".join(parts)


def room(rng: random.Random) -> str:
    """A wall with a window and a skirting, and a floor of boards that run to the back."""
    floor, x = rng.uniform(82, 92), rng.choice((rng.uniform(10, 24), rng.uniform(74, 88)))
    wall = rng.choice(("#f3d9a4", "#b9d7c4", "#e9bfb5", "#c9c3e2"))
    parts = [_band(wall, 0, floor), _band("#c08a56", floor, SIZE)]
    for place in range(-8, 9):
        parts.append(_line(64 + 9 * place, floor, 64 + 22 * place, SIZE, "#9c6c3f", 1.2))
    parts.append(_band("#fbf7ee", floor - 5, floor))
    y = rng.uniform(12, 20)
    glass = f'<rect x="{x:.1f}" y="{y:.1f}" width="30" height="36" fill="#a9dcf5"'
    parts.append(f'{glass} stroke="#fbf7ee" stroke-width="3.5"/>')
    parts.append(_line(x + 15, y, x + 15, y + 36, "#fbf7ee", 2.5))
    parts.append(_line(x, y + 18, x + 30, y + 18, "#fbf7ee", 2.5))
    return "".join(parts)


PLACES = {
    "meadow": Place(meadow, ("on the grass", "in a meadow")),
    "sea": Place(sea, ("by the sea", "at the beach")),
    "snow": Place(snow, ("in the snow",)),
    "night": Place(night, ("at night under the stars", "on a starry night")),
    "table": Place(table, ("on a wooden table", "on a table")),
    "room": Place(room, ("in a room", "in a living room")),
}


def _gradient(name: str, top: str, bottom: str) -> str:
    stops = f'<stop stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/>'
    return f'<linearGradient id="{name}" x2="0" y2="1">{stops}</linearGradient>'


def _band(fill: str, top: float, bottom: float) -> str:
    return f'<rect y="{top:.1f}" width="{SIZE}" height="{bottom - top:.1f}" fill="{fill}"/>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float) -> str:
    path = f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"
    return f'<path d="{path}" stroke="{colour}" stroke-width="{width}"/>'


def _disc(rng: random.Random, below: float, radius: float, fill: str) -> str:
    x, y = rng.uniform(0, SIZE), rng.uniform(0, below)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}"/>'


def _hill(rng: random.Random, height: float, swing: float, fill: str) -> str:
    """Everything below a wavy line at about `height`."""
    ends = [height + rng.uniform(-swing, swing) for _ in range(4)]
    path = f"M0 {ends[0]:.1f}C40 {ends[1]:.1f} 88 {ends[2]:.1f} {SIZE} {ends[3]:.1f}V{SIZE}H0Z"
    return f'<path d="{path}" fill="{fill}"/>'


def _peak(x: float, foot: float, high: float, half: float, fill: str) -> str:
    path = f"M{x - half:.1f} {foot:.1f}L{x:.1f} {foot - high:.1f}L{x + half:.1f} {foot:.1f}Z"
    return f'<path d="{path}" fill="{fill}"/>'


def _clouds(rng: random.Random, most: int, below: float) -> list[str]:
    made = []
    for _ in range(rng.randint(0, most)):
        x, y = rng.uniform(5, SIZE - 5), rng.uniform(12, max(below, 14))
        for shift, radius in ((-9, 5), (0, 7.5), (9, 5.5)):
            disc = f'cx="{x + shift:.1f}" cy="{y - radius / 3:.1f}" r="{radius}"'
            made.append(f'<circle {disc} fill="#ffffff"/>')
    return made
