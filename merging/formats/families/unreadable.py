"""Families that are known by their keys and cannot be read, and why."""

from __future__ import annotations

import re

# Ending of a key → the family, and why its change cannot be added to the base's weights.
UNREADABLE = (
    (
        r"q_layer\.weight|p_layer\.weight|lambda_layer",
        "T-LoRA",
        "its change is another one at every step of a picture",
    ),
    (r"lora_E(\.[\w-]+)?|ranknum", "AdaLoRA", "the file lacks the number of ranks in use"),
    (r"ia3_l(\.[\w-]+)?", "peft's IA³", ""),
    (r"oft_[Rr](\.[\w-]+)*", "OFT of an older peft", ""),
    (r"oft_diag", "OFT of lora_diag", ""),
    *(
        (rf"{start}_\w+(\.[\w-]+)*", f"peft's {title}", "")
        for start, title in (
            *(("adamss", "AdaMSS"), ("beft", "BEFT"), ("bone", "Bone"), ("c3a", "C³A")),
            *(("deft", "DEFT"), ("delora", "DeLoRA"), ("frod", "FRoD"), ("glora", "GLoRA")),
            *(("gralora", "GraLoRA"), ("hira", "HiRA"), ("lily", "Lily"), ("miss", "MiSS")),
            *(("poly", "Poly"), ("psoft", "PSOFT"), ("pvera", "PVeRA"), ("randlora", "RandLoRA")),
            *(("road", "RoAd"), ("tinylora", "TinyLoRA"), ("waveft", "WaveFT")),
        )
    ),
)
REMEDY = "merge it into a checkpoint with its own program, and extract a LoRA from that"


def unreadable(ending: str) -> str:
    """Why a layer with this ending of a key cannot be read: the end of a sentence."""
    for pattern, title, reason in UNREADABLE:
        if re.fullmatch(pattern, ending):
            return (
                f"is written as {title}, which cannot be read{reason and f': {reason}'}; {REMEDY}"
            )
    return (
        f"has {ending}, which belongs to no family of adapters that can be read, so its change "
        f"would be lost; {REMEDY}"
    )
