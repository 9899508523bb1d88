"""A picture of a search: every trial's score, and the best so far of either kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.figure import Figure
from PIL import Image

from merging.analysis.plots import picture
from merging.tuning.search import Kind, Trial

COLOURS: dict[Kind, str] = {"random": "#9aa0a6", "tuned": "#7a3fd9"}
GIVEN = "#d98c3f"


def search_plot(trials: Sequence[Trial]) -> Image.Image:
    """Dots for the trials, steps for the best so far, and a line for the strengths as given."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for kind, colour in COLOURS.items():
        scores = [trial.score for trial in trials if trial.kind == kind]
        places = range(1, len(scores) + 1)
        axes.plot(places, scores, "o", color=colour, markersize=3, alpha=0.6)
        axes.plot(
            places, list(accumulate(scores, max)), color=colour, label=kind, drawstyle="steps-post"
        )
    for trial in trials:
        if trial.kind == "as given":
            axes.axhline(trial.score, color=GIVEN, linestyle="--", label="as given")
    axes.set_xlabel("merges of either kind")
    axes.set_ylabel("score, more is better")
    if trials:
        axes.legend(fontsize="small")
    return picture(figure)
