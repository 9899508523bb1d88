"""A card in HTML: what a file is, in words."""

from __future__ import annotations

from collections.abc import Mapping

from app.schemas.card import Card, misfit, span
from app.ui.html.fragments import megabytes
from app.ui.html.rendering import rendered

PARTS = {"text_encoder": "text-encoder", "unet": "UNet"}
PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}
TEXT = "text encoder"  # what the field calls block BASE
FEW = 3  # names that are listed before "and n more"


def card(found: Card, base: str) -> str:
    """What a file is: one glance, what to know of it, and the rest behind a fold."""
    return rendered(
        "lora_card",
        card=found,
        facts=_word_facts(found) if found.is_word else _facts(found),
        misfit=misfit(found.name, found.base, base),
        notes=_notes(found),
        rows=_rows(found),
    )


def _word_facts(found: Card) -> list[str]:
    words = [f"{word}: {count} vectors" for word, count in found.embeddings.items()]
    return [*words, megabytes(found.megabytes)]


def _facts(found: Card) -> list[str]:
    layers = [f"{found.layers[part]} {title}" for part, title in PARTS.items()]
    ranks, alphas = span(found.ranks), span(found.alphas)
    return [
        f"rank {ranks}" if ranks else "",
        f"alpha {alphas}" if alphas else "",
        f"{' + '.join(each for each in layers if not each.startswith('0 '))} layers",
        ", ".join(PRECISIONS.get(kind, kind) for kind in found.dtypes),
        megabytes(found.megabytes),
        f"a kind of {found.class_word}" if found.class_word else "",
    ]


def _notes(found: Card) -> list[str]:
    """What a person should know before the merge, a sentence each."""
    notes = [*found.warnings]
    if found.embeddings and not found.is_word:
        notes.append(f"It brings words of its own: {', '.join(found.embeddings)}.")
    if found.needs_base:
        notes.append("Its changes depend on the base model, and are worked out with it.")
    if not (found.trigger or found.is_word):
        notes.append("The file names no trigger: type the words that call its concept.")
    return notes


def _rows(found: Card) -> dict[str, str]:
    """Everything else that the header says, by title; "" for what it does not say."""
    return {
        "layers": ", ".join(
            f"{found.layers[part]} of {found.known[part]} in the {title.replace('-', ' ')}"
            for part, title in PARTS.items()
            if part in found.known
        ),
        "beside them": found.shifts,
        "ranks": _histogram(found.ranks),
        "alphas": _histogram(found.alphas),
        "numbers": _histogram(found.dtypes, PRECISIONS),
        "size of the change, ‖Δ‖": ", ".join(
            f"{TEXT if block == 'BASE' else block} {norm:.3g}"
            for block, norm in found.norms.items()
        ),
        "not in the base": _few(found.unmatched),
        "words in the file": ", ".join(found.words),
        "from the Hub": found.origin,
        "SHA-256": found.sha256,
    }


def _histogram(
    counts: Mapping[int, int] | Mapping[float, int] | Mapping[str, int],
    names: Mapping[str, str] | None = None,
) -> str:
    """Values and how many layers have each, "" where there are none."""
    known = names or {}
    shown = [
        (known.get(value, value) if isinstance(value, str) else f"{value:g}", count)
        for value, count in counts.items()
    ]
    return ", ".join(f"{value} × {count}" for value, count in shown)


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more
