"""What the commands print of a file that was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merging import formats
from merging.adapter import Adapter
from merging.engine import MergeResult
from merging.export.sidecar import sentences


def merged(
    out: Path,
    written: formats.Written,
    result: MergeResult,
    words: Sequence[dict[str, Any]] = (),
) -> tuple[dict[str, Any], str]:
    """What is said of a merge, as data and as text."""
    report = result.report
    notes = "".join(f"\nnote: {note}" for note in (*report.notes, *sentences(words)))
    text = f"{out}: {ranks_text(result.adapter)}, {report.method}, {report.seconds:.1f} s"
    answer = told(out, written, words) | {"report": report.as_dict()}
    return answer, f"{text}\n{written.sentence}{notes}"


def told(
    out: Path, written: formats.Written, words: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A written file as plain data."""
    return {
        "out": str(out),
        "sha256": written.sha256,
        "verified": written.as_dict(),
        "embeddings": list(words),
    }


def ranks_text(adapter: Adapter) -> str:
    ranks = [layer.rank for layer in adapter.layers.values()]
    return f"{len(ranks)} layers, ranks {min(ranks)}–{max(ranks)}"
