"""Pieces of HTML: pure functions from plain data; everything a visitor wrote is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from app.jobs.queue import Step
from app.schemas.merge import Merged
from merging.methods import Method

# Before these, what is left of a job is a guess.
SURE, SURE_SECONDS = 0.05, 1.0

HEADER = """
<div class="hero"><h1>IterIS <span>Studio</span></h1>
<p>Merge several Stable Diffusion LoRAs (your cat, your mug, this style) into one adapter that
still draws all of them, and see beside it what a plain sum would draw.</p></div>
"""

TRY = "<p><b>New here?</b> One click loads two LoRAs, merges them and draws the comparison.</p>"
NO_PICTURES = (
    '<p class="nothing pictures">The pictures appear here: what the base model draws, each LoRA '
    "alone, their plain sum, and the merge.</p>"
)
MAPS = (
    '<p class="about">Bright is where the model looked at the trigger words while it drew; an even '
    "haze is nowhere in particular, and two concepts in one place share it.</p>"
)
SCORES = (
    '<p class="about"><b>text-align</b>: how well the picture fits the prompt (0 to 2.5). Behind '
    "each <b>concept</b>, image-align: how alike it is to your pictures of that one (−1 to 1). "
    "Both by CLIP, a model that compares pictures and texts; a made-up trigger says nothing to it. "
    "Compare the columns with each other: a number alone says little.</p>"
)
REFERENCES = (
    '<p class="about">Drop a few pictures of the real thing for each concept: every picture that '
    "is drawn next then says how alike they are. Nothing learns from them.</p>"
)
NOTHING_YET = '<p class="nothing">The merged adapter appears here.</p>'


def heading(number: int, title: str, hint: str) -> str:
    """The head of one step of the page."""
    return (
        f'<div class="step"><b aria-hidden="true">{number}</b><div><h2>{escape(title)}</h2>'
        f"<p>{escape(hint)}</p></div></div>"
    )


def problems(sentences: Iterable[str]) -> str:
    """Files that were not taken, and why."""
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div role="alert"><ul class="problems">{listed}</ul></div>' if listed else ""


def sentences(said: Iterable[str]) -> str:
    """What was done, a line each."""
    lines = "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
    return f'<div class="said" role="status">{lines}</div>'


def running(step: Step) -> str:
    """Text and bar of the work under way."""
    percent = round(100 * min(max(step.share, 0.0), 1.0))
    return (
        f'<div class="status running" role="status"><p><span>{escape(step.text)}</span>'
        f"<span>{percent} % · {step.seconds:.0f} s{_left(step)}</span></p>"
        f'<div class="bar" role="progressbar" aria-label="progress" aria-valuenow="{percent}">'
        f'<i style="width:{percent}%"></i></div></div>'
    )


def _left(step: Step) -> str:
    """About how long it still takes, once there is enough to judge by."""
    if step.share < SURE or step.seconds < SURE_SECONDS:
        return ""
    return f", about {step.seconds * (1 - step.share) / step.share:.0f} s left"


def told(kind: str, sentence: str, link: bool = False) -> str:
    """The last word on a job: ``kind`` is done, stopped or failed."""
    role = "alert" if kind == "failed" else "status"
    see = ' <a href="#compare">See the pictures</a>' if link else ""
    text = f"<p><span>{escape(sentence)}{see}</span></p>"
    return f'<div class="status {kind}" role="{role}">{text}</div>'


def summary(merged: Merged) -> str:
    """What came out of the merge."""
    size = merged.kohya.stat().st_size / 2**20
    facts = {
        "method": merged.method,
        "layers": str(merged.layers),
        "rank": merged.ranks,
        "size": megabytes(size),
        "time": f"{merged.seconds:.1f} s",
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in merged.notes)
    checks = "".join(f'<p class="facts">{escape(check)}.</p>' for check in merged.checks)
    words = f'<p class="facts">Words that call it: <b>{escape(merged.trigger)}</b></p>'
    return f'<dl class="summary">{cells}</dl>{words if merged.trigger else ""}{checks}{notes}'


def megabytes(size: float) -> str:
    """A size for a person; ``size`` is in MB."""
    return f"{size:.1f} MB" if size >= 1 else f"{size * 1024:.0f} KB"


def method(chosen: Method) -> str:
    """One sentence on a method, what strength means to it, and where it is from."""
    strength = chosen.strength.replace("`", "")  # written for Markdown as well
    return (
        f'<p class="about">{escape(chosen.summary)} Strength: {escape(strength)}. '
        f"<span>{escape(chosen.source)}</span></p>"
    )
