"""A1111's syntax of prompts: (word), (word:1.3), [word], BREAK, and \\( for a bracket itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from merging.errors import MergeError

# In a recipe: how triggers and prompts are read; without it brackets are what they are.
SYNTAX_KEY, SYNTAX = "prompt_syntax", "A1111"
STEP = 1.1  # what a pair of round brackets multiplies by, and a pair of square ones divides by
MOST_WEIGHT = 10.0
TOKEN = re.compile(
    r"(?P<escaped>\\[()\[\]\\])|(?P<weight>:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\))|(?P<bracket>[()\[\]])"
    r"|(?P<break>\bBREAK\b)|(?P<text>[^\\()\[\]:B]+|.)",
    re.DOTALL,
)
# Prompts that change from step to step: [cat:dog:0.5], [cat|dog].
CHANGING = re.compile(r"(?<!\\)\[([^\[\]]*:[^\[\]]*:\s*[\d.]+\s*|[^\[\]]*\|[^\[\]]*)\]")
SPECIAL = re.compile(r"[()\[\]\\]|\bBREAK\b")  # what the syntax is made of


@dataclass(frozen=True)
class Fragment:
    """A stretch of a prompt, and how much it weighs."""

    text: str
    weight: float = 1.0


Part = tuple[Fragment, ...]  # what stands between two BREAKs


class Prompt(str):
    """A prompt as plain text, without syntax, that knows its parts and their weights."""

    parts: tuple[Part, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is one stretch of text without emphasis."""
        return len(self.parts) == 1 and [one.weight for one in self.parts[0]] == [1.0]


def parse_prompt(text: str) -> Prompt:
    """The prompt behind A1111's syntax; text without any stays as it is.

    Raises MergeError for a weight outside 0 to MOST_WEIGHT, and for words that are to change under
    way, which is not supported.
    """
    if changing := CHANGING.search(text):
        raise MergeError(
            f"The prompt has words that change from step to step, {changing[0]!r}, which is not "
            "supported here; write \\[ for a bracket itself."
        )
    parts = tuple(map(_joined, _split(_weighted(text))))
    plain = text
    if len(parts) > 1 or any(one.weight != 1 for one in parts[0]) or "\\" in text:
        plain = " ".join(filter(None, ("".join(one.text for one in part) for part in parts)))
    prompt = Prompt(plain)
    prompt.parts = parts if plain is not text else ((Fragment(text),),)
    return prompt


def plain_text(text: str) -> str:
    """A prompt or trigger without syntax; as it is where it breaks the rules."""
    try:
        return str(parse_prompt(text))
    except MergeError:
        return text


def has_syntax(text: str) -> bool:
    """Whether anything in a text is not read as it stands there."""
    return SPECIAL.search(text) is not None


def has_weights(text: str) -> bool:
    """Whether any words of a prompt weigh more or less; MergeError as `parse_prompt`."""
    return any(one.weight != 1 for part in parse_prompt(text).parts for one in part)


def escaped(text: str) -> str:
    """A prompt that is read as ``text`` stands there, brackets included; CLIP has no capitals."""
    return SPECIAL.sub(lambda mark: "break" if mark[0] == "BREAK" else f"\\{mark[0]}", text)


def _weighted(text: str) -> list[Fragment | None]:
    """The stretches with their weights, None for every BREAK."""
    fragments: list[Fragment | None] = []
    opened: list[tuple[str, int]] = []  # brackets, and how many stretches stand before them
    for token in TOKEN.finditer(text):
        mark = token[0]
        if token["bracket"] in ("(", "["):
            opened.append((mark, len(fragments)))
        elif token["weight"] and opened and opened[-1][0] == "(":
            _weigh(fragments, opened.pop()[1], float(mark[1:-1]))
        elif (mark in (")", "]")) and opened and opened[-1][0] == {")": "(", "]": "["}[mark]:
            _weigh(fragments, opened.pop()[1], STEP if mark == ")" else 1 / STEP)
        elif token["break"]:
            fragments.append(None)
        else:
            fragments.append(Fragment(mark[1:] if token["escaped"] else mark))
    for bracket, start in opened:  # A1111 closes at the end what nobody closed
        _weigh(fragments, start, STEP if bracket == "(" else 1 / STEP)
    return fragments


def _weigh(fragments: list[Fragment | None], start: int, factor: float) -> None:
    """Multiply the weights of all stretches from ``start`` on; MergeError beyond the limits."""
    for place, one in enumerate(fragments[start:], start):
        if one is None:
            continue
        weight = round(one.weight * factor, 9)
        if not 0 <= weight <= MOST_WEIGHT:
            raise MergeError(
                f"“{one.text.strip()}” weighs {weight:g} in the prompt; a weight is 0 to "
                f"{MOST_WEIGHT:g}, as in (word:1.3)."
            )
        fragments[place] = Fragment(one.text, weight)


def _split(fragments: list[Fragment | None]) -> list[list[Fragment]]:
    """The stretches between the BREAKs."""
    parts: list[list[Fragment]] = [[]]
    for one in fragments:
        if one is None:
            parts.append([])
        else:
            parts[-1].append(one)
    return parts


def _joined(part: list[Fragment]) -> Part:
    """Neighbours of one weight as one stretch, without blanks around the part."""
    runs = [
        Fragment("".join(one.text for one in run), weight)
        for weight, run in groupby(part, key=lambda one: one.weight)
    ]
    if runs:
        runs[0] = Fragment(runs[0].text.lstrip(), runs[0].weight)
        runs[-1] = Fragment(runs[-1].text.rstrip(), runs[-1].weight)
    return tuple(run for run in runs if run.text) or (Fragment(""),)
