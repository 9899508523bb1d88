"""Where the files that ship with the project lie: the embedded models, LoRAs, the detector."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
