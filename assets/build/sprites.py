"""Emoji sprites: fetched from npm by name, version and checksum, then cut to the objects we use.

Noto (`google`) draws the looks of the base, Twemoji (`twitter`) the looks of the concepts.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from PIL import Image

VERSION = "16.0.0"
SHA256 = {
    "google": "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    "twitter": "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
}

# object name -> code point of its emoji: the vocabulary of every check
OBJECTS = {
    "cat": "1f431",
    "dog": "1f436",
    "fox": "1f98a",
    "bear": "1f43b",
    "panda": "1f43c",
    "tiger": "1f42f",
    "lion": "1f981",
    "cow": "1f42e",
    "pig": "1f437",
    "frog": "1f438",
    "monkey": "1f435",
    "penguin": "1f427",
    "owl": "1f989",
    "octopus": "1f419",
    "fish": "1f41f",
    "butterfly": "1f98b",
    "turtle": "1f422",
    "apple": "1f34e",
    "banana": "1f34c",
    "watermelon": "1f349",
    "strawberry": "1f353",
    "pizza": "1f355",
    "burger": "1f354",
    "donut": "1f369",
    "cake": "1f382",
    "car": "1f697",
    "bus": "1f68c",
    "rocket": "1f680",
    "house": "1f3e0",
    "tree": "1f333",
    "cactus": "1f335",
    "sunflower": "1f33b",
    "mushroom": "1f344",
    "star": "2b50",
    "moon": "1f319",
    "umbrella": "2602-fe0f",
    "balloon": "1f388",
    "gift": "1f381",
    "guitar": "1f3b8",
    "crown": "1f451",
}


def package(vendor: str, work: Path) -> Path:
    """The vendor's npm package in `work`, fetched unless it is there; ValueError if it differs."""
    folder = work / "packages"
    file = folder / f"emoji-datasource-{vendor}-{VERSION}.tgz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm") or "npm"
        name = f"emoji-datasource-{vendor}@{VERSION}"
        subprocess.run([npm, "pack", name, "--pack-destination", str(folder)], check=True)
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256[vendor]:
        raise ValueError(f"{file} is not the package these weights were trained on; delete it.")
    return file


def load(vendor: str, work: Path) -> dict[str, Image.Image]:
    """The 64-pixel RGBA sprite of every object in `vendor`'s drawing."""
    folder = work / "sprites" / vendor
    if not (folder / "crown.png").exists():
        _extract(package(vendor, work), vendor, folder)
    return {name: Image.open(folder / f"{name}.png").convert("RGBA") for name in OBJECTS}


def _extract(archive: Path, vendor: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        for name, code in OBJECTS.items():
            member = packed.extractfile(f"package/img/{vendor}/64/{code}.png")
            assert member is not None
            (folder / f"{name}.png").write_bytes(member.read())
