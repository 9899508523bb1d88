"""Where the files that ship with the project lie: the embedded models, LoRAs, the detector."""

from __future__ import annotations

from pathlib import Path

INSTALLED = "bundled_assets"  # folder of the installed package, which pyproject.toml fills


def assets_folder(package: Path) -> Path:
    """The folder inside the package where that is installed, ``assets`` beside it in a checkout."""
    inside = package / INSTALLED
    return inside if inside.is_dir() else package.parent / "assets"


ASSETS = assets_folder(Path(__file__).parents[1])
