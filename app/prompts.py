"""Prompts on the page: examples, and the visitor's calibration prompts split by trigger."""

from __future__ import annotations

from collections.abc import Sequence

from merging.base_models import base_model
from merging.calibration.prompts import concept_prompts, is_style
from merging.errors import MergeError
from merging.runtime.seeds import seed_for
from merging.text.phrases import phrases_in
from merging.text.syntax import plain_text

MOST_ALONE = 3  # concepts that get a prompt of their own beside that of all


def template_prompts(trigger: str, count: int, seed: int) -> tuple[str, ...]:
    """The calibration prompts that a merge makes from a trigger with its seed."""
    phrase = trigger.strip()
    return concept_prompts(phrase, count, seed_for(seed, plain_text(phrase)))


def split_prompts(triggers: Sequence[str], prompts: str) -> list[tuple[str, ...]]:
    """The visitor's prompts by trigger: for every trigger the lines that name it.

    Raises MergeError for a line without any of the triggers.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    phrases = [plain_text(trigger) for trigger in triggers]
    phrases_of = {line: phrases_in(plain_text(line), phrases) for line in lines}
    by_trigger = [tuple(line for line in lines if phrase in phrases_of[line]) for phrase in phrases]
    used = {line for group in by_trigger for line in group}
    for line in lines:
        if line not in used:
            raise MergeError(
                f"The calibration prompt “{line[:60]}” contains none of the triggers "
                f"({', '.join(filter(None, triggers)) or 'there are none'}); add one, or "
                "remove the line."
            )
    return by_trigger


def example_prompts(triggers: Sequence[str], base: str) -> tuple[str, ...]:
    """Example prompts with every concept, objects before styles; the first one is the default."""
    phrases = [trigger.strip() for trigger in triggers if trigger.strip()]
    styles = [trigger for trigger in phrases if is_style(plain_text(trigger))]
    things = [trigger for trigger in phrases if trigger not in styles] or ["house"]
    look = "".join(f" in {trigger}" for trigger in styles)
    orders = dict.fromkeys((tuple(things), tuple(reversed(things))))
    return tuple(
        f"a photo of {_enumeration(order)}{look}{place}"
        for place in base_model(base).places
        for order in orders
    )


def suggestions(triggers: Sequence[str], base: str) -> tuple[str, ...]:
    """Prompts for a comparison, one per line: all concepts, then each alone where there are few.

    The first text is the default.
    """
    phrases = [trigger.strip() for trigger in triggers if trigger.strip()]
    joint = example_prompts(phrases, base)
    alone = [example_prompts([phrase], base) for phrase in phrases if len(phrases) <= MOST_ALONE]
    orders = len(joint) // len(base_model(base).places)
    return tuple(
        "\n".join(dict.fromkeys([prompt, *(prompts[i // orders] for prompts in alone)]))
        for i, prompt in enumerate(joint)
    )


def suggested_prompt(triggers: Sequence[str], base: str, written: str = "") -> str:
    """The suggestion that begins with the line that ``written`` does, else the first one.

    "" without a trigger.
    """
    if not any(map(str.strip, triggers)):
        return ""
    texts, line = suggestions(triggers, base), written.partition("\n")[0]
    return next((text for text in texts if text.partition("\n")[0] == line), texts[0])


def _enumeration(things: Sequence[str]) -> str:
    nouns = [f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}" for thing in things]
    return " and ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]]))
