"""The row of one file in HTML, and the facts in its drawer."""

from __future__ import annotations

from collections.abc import Mapping

from app.schemas.card import Card, fits, span
from app.ui.html.fragments import megabytes
from app.ui.html.rendering import render_template

PARTS = {"text_encoder": "text-encoder", "unet": "UNet"}
PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}
TEXT = "text encoder"  # block BASE, as users know it
FEW = 3  # names that are listed before "and n more"


def row_html(card: Card, base: str, trigger: str) -> str:
    """Picture, name and trigger of a file; where it was made for another base model, which."""
    return render_template(
        "lora_row",
        card=card,
        trigger=trigger,
        misfit="" if fits(card.base, base) else f"for {card.base_title}",
        letter=card.name[:1].upper(),
    )


def facts_html(card: Card) -> str:
    """What is known of a file, for its drawer."""
    return render_template(
        "lora_facts",
        card=card,
        facts=_embedding_facts(card) if card.is_word else _facts(card),
        notes=_notes(card),
        rows=_rows(card),
    )


def _embedding_facts(card: Card) -> list[str]:
    vectors = [f"{word}: {count} vectors" for word, count in card.embeddings.items()]
    return [*vectors, megabytes(card.megabytes)]


def _facts(card: Card) -> list[str]:
    layers = [f"{card.layers[part]} {title}" for part, title in PARTS.items()]
    ranks, alphas = span(card.ranks), span(card.alphas)
    return [
        f"rank {ranks}" if ranks else "",
        f"alpha {alphas}" if alphas else "",
        f"{' + '.join(part for part in layers if not part.startswith('0 '))} layers",
        ", ".join(PRECISIONS.get(kind, kind) for kind in card.dtypes),
        megabytes(card.megabytes),
        f"a kind of {card.class_word}" if card.class_word else "",
    ]


def _notes(card: Card) -> list[str]:
    """What the user should know before the merge, as sentences."""
    notes = [*card.warnings]
    if card.embeddings and not card.is_word:
        notes.append(f"It contains textual inversions: {', '.join(card.embeddings)}.")
    if card.needs_base:
        notes.append("Its changes depend on the base model and are computed once it is loaded.")
    if not (card.trigger or card.is_word):
        notes.append("The file names no trigger words: type them above.")
    return notes


def _rows(card: Card) -> dict[str, str]:
    """All other facts by title; "" where there is none."""
    return {
        "layers": ", ".join(
            f"{card.layers[part]} of {card.known[part]} in the {title.replace('-', ' ')}"
            for part, title in PARTS.items()
            if part in card.known
        ),
        "biases and norms": card.shifts,
        "ranks": _histogram(card.ranks),
        "alphas": _histogram(card.alphas),
        "numbers": _histogram(card.dtypes, PRECISIONS),
        "size of the change, ‖ΔW‖": ", ".join(
            f"{TEXT if block == 'BASE' else block} {norm:.3g}" for block, norm in card.norms.items()
        ),
        "not in the base": _few(card.unmatched),
        "trigger words in the file": ", ".join(card.words),
        "from the Hub": card.origin,
        "in the file beside it": card.sidecar,
        "SHA-256": card.sha256,
    }


def _histogram(
    counts: Mapping[int, int] | Mapping[float, int] | Mapping[str, int],
    names: Mapping[str, str] | None = None,
) -> str:
    """Values with their numbers of layers, such as "8 × 128"; "" where there are none."""
    known = names or {}
    shown = [
        (known.get(value, value) if isinstance(value, str) else f"{value:g}", count)
        for value, count in counts.items()
    ]
    return ", ".join(f"{value} × {count}" for value, count in shown)


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more
