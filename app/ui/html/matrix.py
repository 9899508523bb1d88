"""The matrix of a batch: a table of pictures, each a button that opens its merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from app.schemas.batch import BatchResult
from app.ui.html.rendering import render_template

Address = Callable[[Path], str]  # where the browser finds a file


def matrix_html(result: BatchResult, entries: Mapping[Path, int | None], address: Address) -> str:
    """Axes as on the PNG of the matrix; ``entries`` has the history's entry of every picture."""
    from merging.batch.matrix import axes, place  # imports torch

    if not result.cells:
        return ""
    names = axes([cell.settings for cell in result.cells])
    cells = {place(cell.settings, names): cell.picture for cell in result.cells}
    across, down = (list(dict.fromkeys(where[axis] for where in cells)) for axis in (0, 1))
    return render_template(
        "matrix", across=across, down=down, cells=cells, entries=entries, address=address
    )
