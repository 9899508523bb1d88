"""Small pieces of the page's HTML, from plain data."""

from __future__ import annotations

from collections.abc import Iterable

from app.jobs.queue import Step
from app.schemas.merge import FinishedMerge
from app.ui.html.rendering import rendered
from merging.methods import Method

# Before these, what is left of a job is a guess.
SURE, SURE_SECONDS = 0.05, 1.0


def paragraph(kind: str, text: str) -> str:
    """One paragraph; ``kind`` is its class in the style sheet: about, facts, note or nothing."""
    return rendered("paragraph", kind=kind, text=text)


def heading(number: int, title: str, hint: str) -> str:
    """The head of one step of the page."""
    return rendered("heading", number=number, title=title, hint=hint)


def problems(sentences: Iterable[str]) -> str:
    """Files that were not taken, and why."""
    return rendered("problems", sentences=list(sentences))


def sentences(lines: Iterable[str]) -> str:
    """What was done, a line each."""
    return rendered("sentences", sentences=lines)


def running(step: Step) -> str:
    """Text and bar of the work under way."""
    percent = round(100 * min(max(step.share, 0.0), 1.0))
    return rendered("running", text=step.text, percent=percent, time=_time(step))


def _time(step: Step) -> str:
    """How long it has taken, and about how much is left once there is enough to judge by."""
    text = f"{step.seconds:.0f} s"
    if step.share < SURE or step.seconds < SURE_SECONDS:
        return text
    return f"{text}, about {step.seconds * (1 - step.share) / step.share:.0f} s left"


def ended(kind: str, sentence: str, link: bool = False) -> str:
    """How a job ended: ``kind`` is done, stopped or failed."""
    return rendered("ended", kind=kind, sentence=sentence, link=link)


def summary(merged: FinishedMerge) -> str:
    """What came out of the merge."""
    facts = {
        "method": merged.method,
        "layers": merged.layers,
        "rank": merged.ranks,
        "size": megabytes(merged.kohya.stat().st_size / 2**20),
        "time": f"{merged.seconds:.1f} s",
    }
    return rendered("summary", merged=merged, facts=facts)


def megabytes(size: float) -> str:
    """A size for a person; ``size`` is in MB."""
    return f"{size:.1f} MB" if size >= 1 else f"{size * 1024:.0f} KB"


def method(chosen: Method) -> str:
    """One sentence on a method, what strength means to it, and where it is from."""
    strength = chosen.strength.replace("`", "")  # written for Markdown as well
    return rendered("method", method=chosen, strength=strength)
