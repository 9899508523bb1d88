"""A card in HTML: what a file is, in words; everything that its author wrote is escaped."""

from __future__ import annotations

from html import escape

from app.cards import Card, misfit
from app.ui.markup import megabytes


def card(found: Card, base: str) -> str:
    """What a file is, in one glance."""
    layers = [
        f"{count} {part} layers"
        for count, part in ((found.text_encoder, "text-encoder"), (found.unet, "UNet"))
        if count
    ]
    facts = [
        f"rank {found.ranks}",
        f"alpha {found.alphas}",
        *layers,
        megabytes(found.megabytes),
    ]
    chips = "".join(f"<span>{escape(chip)}</span>" for chip in (found.family, found.base_title))
    wrong = misfit(found.name, found.base, base)
    notes = [f'<p class="bad">{escape(wrong)}</p>'] if wrong else []
    notes += [f'<p class="note">{escape(warning)}</p>' for warning in found.warnings]
    if not found.trigger:
        notes.append(
            '<p class="note">The file names no trigger: type the words that call its concept.</p>'
        )
    return (
        f'<div class="lora"><h3>{escape(found.name)}</h3><div class="chips">{chips}</div>'
        f'<p class="facts">{escape(" · ".join(facts))}</p>{"".join(notes)}</div>'
    )
