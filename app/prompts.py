"""Prompts for the page: examples to press, and a visitor's own lines sorted by trigger."""

from __future__ import annotations

from collections.abc import Sequence

from merging.base_models import base_model
from merging.calibration.prompts import concept_prompts, is_style
from merging.errors import MergeError
from merging.runtime.seeds import seed_for


def template_prompts(trigger: str, count: int, seed: int) -> tuple[str, ...]:
    """The sentences that a merge makes from a trigger, as its seed draws them."""
    phrase = trigger.strip()
    return concept_prompts(phrase, count, seed_for(seed, phrase))


def own_prompts(triggers: Sequence[str], prompts: str) -> list[tuple[str, ...]]:
    """The visitor's own prompts for each trigger: the lines that say it, in their order.

    Raises MergeError for a line that says none of them: nothing is left out in silence.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    own = [
        tuple(line for line in lines if trigger and trigger.lower() in line.lower())
        for trigger in triggers
    ]
    said = {line for mine in own for line in mine}
    for line in lines:
        if line not in said:
            raise MergeError(
                f"The calibration prompt “{line[:60]}” says none of the trigger words "
                f"({', '.join(filter(None, triggers)) or 'there are none'}); put one in, or "
                "take the line out."
            )
    return own


def example_prompts(triggers: Sequence[str], base: str) -> tuple[str, ...]:
    """Sentences that need every concept, things and then styles; the first is the usual one."""
    known = [trigger.strip() for trigger in triggers if trigger.strip()]
    things = [trigger for trigger in known if not is_style(trigger)] or ["house"]
    look = "".join(f" in {trigger}" for trigger in known if is_style(trigger))
    orders = dict.fromkeys((tuple(things), tuple(reversed(things))))
    return tuple(
        f"a photo of {_listed(order)}{look}{place}"
        for place in base_model(base).places
        for order in orders
    )


def suggested_prompt(triggers: Sequence[str], base: str) -> str:
    """The first of these examples; "" where no trigger is known."""
    return example_prompts(triggers, base)[0] if any(map(str.strip, triggers)) else ""


def _listed(things: Sequence[str]) -> str:
    named = [f"{'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}" for thing in things]
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
