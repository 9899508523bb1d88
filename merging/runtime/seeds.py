"""Seeds that depend on what is drawn, not on where it stands in a list."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *words: str) -> int:
    """A seed for this purpose: the same for the same words, whatever the order of the request."""
    text = "\n".join((str(seed), *words)).encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
