"""What a person may conclude from the pictures: counts, and how far luck explains them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

from app.schemas.draw import Picture
from app.ui.html.rendering import render_template

LUCK = 0.05  # the most that chance alone may give where a difference is called one
MANY = {1: "the concept", 2: "both", 3: "all three", 4: "all four"}
TOO_FEW = "With so few pictures that can be luck: draw more to be sure."

Found = tuple[tuple[str, bool], ...]  # of a picture


@dataclass(frozen=True)
class Tally:
    """Pairs of pictures from the same noise: whether each shows all that its prompt names."""

    pairs: tuple[tuple[bool, bool], ...]  # loaded together, merged

    @property
    def together(self) -> int:
        """How many of those that were drawn with the LoRAs loaded together do."""
        return sum(together for together, _ in self.pairs)

    @property
    def merged(self) -> int:
        """How many of the merge's do."""
        return sum(merged for _, merged in self.pairs)

    @property
    def luck(self) -> float:
        """The chance of so one-sided pairs, or more, if neither way were better: a sign test."""
        wins = sum(merged and not together for together, merged in self.pairs)
        losses = sum(together and not merged for together, merged in self.pairs)
        tail = range(max(wins, losses), wins + losses + 1)
        return sum(comb(wins + losses, count) for count in tail) / 2 ** (wins + losses)

    def __str__(self) -> str:
        """``loaded together 1 of 4, merged 3 of 4``."""
        count = len(self.pairs)
        return f"loaded together {self.together} of {count}, merged {self.merged} of {count}"


def verdict_html(pictures: Sequence[Picture]) -> str:
    """The conclusion from all prompts, and the counts; "" before the pictures are judged."""
    together, merged = (_presence(pictures, column) for column in ("sum", "merged"))
    pairs = [(together[place], merged[place]) for place in together if place in merged]
    if not pairs:
        return ""
    most = max(len(found) for found, _ in pairs)
    what = MANY.get(most, "all of them")
    joint = _tally(pair for pair in pairs if len(pair[0]) == most)
    rest = _tally(pair for pair in pairs if len(pair[0]) < most)
    counts = [f"{what[0].upper()}{what[1:]} in the picture: {joint}."]
    if rest.pairs:
        counts.append(f"Prompts that name {'one' if most == 2 else 'fewer'}: {rest}.")
        what = "what the prompts name"
    sentence = conclusion(Tally((*joint.pairs, *rest.pairs)), what)
    return render_template("verdict", sentence=sentence, counts=counts)


def conclusion(tally: Tally, what: str) -> str:
    """One or two sentences; a difference that luck may explain is not called one."""
    count, together, merged = len(tally.pairs), tally.together, tally.merged
    if together == merged:
        return _alike(count, together, what)
    if merged > together:
        better, worse = "The merge", "loading the LoRAs together"
    else:
        better, worse = "Loading the LoRAs together", "the merge"
    if tally.luck <= LUCK:
        return f"{better} shows {what} more often than {worse}."
    return f"{better} does better here than {worse}. {TOO_FEW}"


def _alike(count: int, shown: int, what: str) -> str:
    """Where both ways show it in equally many pictures."""
    if shown == 0:
        return f"Neither way shows {what} here: try other strengths, or another method."
    if shown < count:
        return f"Merging and loading together do equally well here. {TOO_FEW}"
    sentence = f"Loading the LoRAs together shows {what} as often here: compare how it looks."
    return sentence if count > 1 else f"{sentence} {TOO_FEW}"


def _presence(pictures: Sequence[Picture], column: str) -> dict[tuple[str, int], Found]:
    """What was found in the judged pictures of a column, by prompt and seed."""
    return {(it.prompt, it.seed): it.found for it in pictures if it.column == column and it.found}


def _tally(pairs: Iterable[tuple[Found, Found]]) -> Tally:
    def whole(found: Found) -> bool:
        return all(there for _, there in found)

    return Tally(tuple((whole(together), whole(merged)) for together, merged in pairs))
