"""Names of merged files: the method and the LoRAs, such as iteris_sks-cat+vxz-pizza."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def file_stem(method: str, labels: Sequence[str]) -> str:
    """File name without ending, such as iteris_sks-cat+vxz-pizza; the labels take 80 characters."""
    return f"{method}_" + "+".join(map(plain, labels))[:80].rstrip("-+")


def plain(label: str) -> str:
    """Lower-case letters, digits and single dashes, at most 32 of them."""
    ascii_only = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:32] or "lora"
