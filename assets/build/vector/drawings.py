"""Forty objects as vectors, in six artists' drawings, rendered at any size.

`drawings/<set>.json.gz` holds the forty SVG bodies of one set; `python -m
assets.build.vector.drawings` cuts them again out of the npm packages, fetched by name, version and
checksum. Their licences stand in `drawings/README.md`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import resvg_py
from PIL import Image

FOLDER = Path(__file__).parent / "drawings"
BASE = "noto"  # the set that the base is taught; the others draw the concepts
SETS = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "twemoji", "emojione")
PACKAGES = {  # set -> version and SHA-256 of its package @iconify-json/<set>
    "noto": ("1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "noto-v1": ("1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
    "fluent-emoji": ("1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"),
    "fluent-emoji-flat": (
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "twemoji": ("1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    "emojione": ("1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
}
SIDE = 144  # pixels of a rendered drawing, more than any scene asks for

# object name -> name of its icon: the vocabulary of every check
OBJECTS = {
    "cat": "cat-face",
    "dog": "dog-face",
    "fox": "fox",
    "bear": "bear",
    "panda": "panda",
    "tiger": "tiger-face",
    "lion": "lion",
    "cow": "cow-face",
    "pig": "pig-face",
    "frog": "frog",
    "monkey": "monkey-face",
    "penguin": "penguin",
    "owl": "owl",
    "octopus": "octopus",
    "fish": "tropical-fish",
    "butterfly": "butterfly",
    "turtle": "turtle",
    "apple": "red-apple",
    "banana": "banana",
    "watermelon": "watermelon",
    "strawberry": "strawberry",
    "pizza": "pizza",
    "burger": "hamburger",
    "donut": "doughnut",
    "cake": "birthday-cake",
    "car": "automobile",
    "bus": "bus",
    "rocket": "rocket",
    "house": "house",
    "tree": "deciduous-tree",
    "cactus": "cactus",
    "sunflower": "sunflower",
    "mushroom": "mushroom",
    "star": "star",
    "moon": "crescent-moon",
    "umbrella": "umbrella",
    "balloon": "balloon",
    "gift": "wrapped-gift",
    "guitar": "guitar",
    "crown": "crown",
}


def picture(svg: str) -> Image.Image:
    """An SVG document as an RGBA picture."""
    made = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(made))).convert("RGBA")


@cache
def load(name: str, side: int = SIDE) -> dict[str, Image.Image]:
    """Every object of one set as an RGBA sprite, cut to its edges, `side` pixels at most."""
    book = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return {thing: _sprite(body, book["size"], side) for thing, body in book["bodies"].items()}


def _sprite(body: str, size: int, side: int) -> Image.Image:
    drawn = picture(_document(body, size, side))
    left, top, right, bottom = drawn.getbbox() or (0, 0, side, side)
    side_drawn = side * side / max(right - left, bottom - top)  # rendered again, not stretched
    drawn = picture(_document(body, size, round(side_drawn)))
    return drawn.crop(drawn.getbbox())


def _document(body: str, size: int, side: int) -> str:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    box = f'viewBox="0 0 {size} {size}" width="{side}" height="{side}"'
    return f"<svg {spaces} {box}>{body}</svg>"


def package(name: str, work: Path) -> Path:
    """The set's npm package in `work`, fetched unless it is there; ValueError if it differs."""
    version, checksum = PACKAGES[name]
    folder = work / "packages"
    file = folder / f"iconify-json-{name}-{version}.tgz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm") or "npm"
        release = f"@iconify-json/{name}@{version}"
        subprocess.run([npm, "pack", release, "--pack-destination", str(folder)], check=True)
    if hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
        raise ValueError(f"{file} is not the package these drawings were cut from; delete it.")
    return file


def cut(name: str, work: Path) -> bytes:
    """The forty bodies of a set as gzipped JSON, the same bytes every time."""
    with tarfile.open(package(name, work)) as packed:
        member = packed.extractfile("package/icons.json")
        assert member is not None
        book = json.load(member)
    bodies = {thing: _body(book, icon) for thing, icon in OBJECTS.items()}
    text = json.dumps({"size": book["height"], "bodies": bodies}, indent=0)
    return gzip.compress(text.encode(), mtime=0)


def _body(book: dict, icon: str) -> str:
    known = icon if icon in book["icons"] else book["aliases"][icon]["parent"]
    return book["icons"][known]["body"]


def main() -> None:
    """Write drawings/ anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    work = parser.parse_args().work
    FOLDER.mkdir(exist_ok=True)
    for name in SETS:
        (FOLDER / f"{name}.json.gz").write_bytes(cut(name, work))


if __name__ == "__main__":
    main()
