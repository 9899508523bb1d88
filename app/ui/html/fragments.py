"""Small pieces of HTML that several parts of the page use."""

from __future__ import annotations

from collections.abc import Iterable

from app.jobs.queue import Step
from app.schemas.merge import FinishedMerge
from app.ui.html.durations import rounded
from app.ui.html.rendering import render_template
from merging.base_models import MINI
from merging.methods import Method
from merging.text.phrases import phrases_in
from merging.text.syntax import plain_text

# Where a finished file loads; one for the embedded base loads here and in diffusers alone.
PROGRAMS = ("A1111 · Forge", "ComfyUI", "InvokeAI", "diffusers")
DEMO = ("read back and checked", "for the built-in model alone")
# From this share and time on, the remaining time of a job can be estimated.
RELIABLE_SHARE, RELIABLE_SECONDS = 0.05, 1.0


def paragraph(kind: str, text: str) -> str:
    """One paragraph; ``kind`` is its class in the style sheet: about, facts, note or nothing."""
    return render_template("paragraph", kind=kind, text=text)


def panel_title(title: str, hint: str) -> str:
    """The top of a panel that opens from the header, with its close link."""
    return render_template("panel_title", title=title, hint=hint)


def problem_list(sentences: Iterable[str]) -> str:
    """What went wrong, one line per sentence; read out by screen readers."""
    return render_template("problem_list", sentences=list(sentences))


def hint(sentence: str) -> str:
    """What is missing, in the dock; "" for nothing."""
    return render_template("hint", sentence=sentence) if sentence else ""


def chips(prompt: str, triggers: Iterable[str]) -> str:
    """A chip per trigger: whether the prompt has it, or a button that adds it."""
    words = {trigger: plain_text(trigger) for trigger in triggers if trigger}
    present = phrases_in(plain_text(prompt), list(words.values()))
    shown = [(trigger, plain in present) for trigger, plain in words.items()]
    return render_template("chips", chips=shown)


def messages(sentences: Iterable[str]) -> str:
    """What was done, one paragraph per sentence."""
    return render_template("messages", sentences=list(sentences))


def progress(step: Step) -> str:
    """Text and bar of a running job."""
    percent = round(100 * min(max(step.share, 0.0), 1.0))
    return render_template("progress", text=step.text, percent=percent, time=_time(step))


def _time(step: Step) -> str:
    """Elapsed seconds, and an estimate of the remaining ones once it is reliable."""
    text = f"{step.seconds:.0f} s"
    if step.left is not None:
        return f"{text}, about {rounded(step.left)} left"
    if step.share < RELIABLE_SHARE or step.seconds < RELIABLE_SECONDS:
        return text
    return f"{text}, about {rounded(step.seconds * (1 - step.share) / step.share)} left"


def outcome(kind: str, sentence: str) -> str:
    """How a job ended: ``kind`` is done, stopped or failed."""
    return render_template("outcome", kind=kind, sentence=sentence)


def summary(merged: FinishedMerge) -> str:
    """Facts of a finished merge, its checks and notes."""
    facts = {
        "method": merged.method,
        "layers": merged.layers,
        "rank": merged.ranks,
        "size": megabytes(merged.kohya.stat().st_size / 2**20),
        "time": f"{merged.seconds:.1f} s",
    }
    loads = DEMO if merged.order.base == MINI.name else PROGRAMS
    return render_template("summary", merged=merged, facts=facts, loads=loads)


def megabytes(size: float) -> str:
    """A size in MB as text."""
    return f"{size:.1f} MB" if size >= 1 else f"{size * 1024:.0f} KB"


def method(chosen: Method) -> str:
    """A method in one sentence, what strength means to it, and its source."""
    strength = chosen.strength.replace("`", "")  # the text has Markdown
    return render_template("method", method=chosen, strength=strength)
