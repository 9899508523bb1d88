"""Seeds that depend on the purpose, not on the order of a list."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *purpose: str) -> int:
    """A seed for this purpose, such as ("noise", name of the row set); of 32 bits."""
    text = "\n".join((str(seed), *purpose)).encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
