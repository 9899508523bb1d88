"""Which concepts are in the finished pictures: the LoRAs' own advantage over the base tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from app.jobs.job_thread import Emit
from app.jobs.sources import read_embeddings, read_source
from app.jobs.timing.pace import Stage
from app.jobs.timing.timetable import Timetable
from app.schemas.draw import DrawOrder, MissingVerdict, Picture
from merging.diffusion.base import Base
from merging.diffusion.refine.concept import Concept, concept_of
from merging.diffusion.refine.judge import Examples, Judge, judge_from_examples
from merging.errors import MergeError
from merging.runtime.progress import Progress, Stop, part
from merging.text.syntax import parse_prompt

JUDGED = ("sum", "merged")  # columns of the pictures that are looked at
NEEDED = {"base", "each", *JUDGED}  # columns without which nothing can be told
MOST_EXAMPLES = 4  # of a LoRA alone, and as many of the base
PASSES = 3  # of the UNet, for one picture and model
EXAMPLES_SHARE = 0.4  # of the progress, about


def is_judged(order: DrawOrder) -> bool:
    """Whether these pictures are to be judged and can be."""
    named = [order.triggers_in(prompt) for prompt in order.prompts]
    return order.judged and len(order.picks) > 1 and {*order.columns} >= NEEDED and any(named)


def judging_stages(order: DrawOrder) -> list[Stage]:
    """The stage in which the pictures are looked at, if they are; the cost as when drawing."""
    if not is_judged(order):
        return []
    triggers = [order.triggers_in(prompt) for prompt, _ in order.scenes]
    examples = sum(min(MOST_EXAMPLES, sum(p in row for row in triggers)) for p in order.triggers)
    looks = sum(len(JUDGED) * (1 + len(row)) for row in triggers if row)
    return [Stage("drawing", PASSES * (4 * examples + looks))]


@dataclass(frozen=True)
class Judging:
    """Finished pictures of an order, which are looked at."""

    base: Base
    order: DrawOrder  # with the merge
    pictures: Sequence[Picture]
    timetable: Timetable
    emit: Emit
    stop: Stop

    def run(self) -> None:
        """Emit the pictures again with what was found; MissingVerdict where nothing can be told."""
        if not is_judged(self.order):
            return
        progress = self.timetable.next_stage()
        progress(0.0, "Looking for the concepts in the pictures")
        try:
            self._look(progress)
        except MergeError as error:
            self.emit(MissingVerdict(str(error)))

    def _look(self, progress: Progress) -> None:
        judge = self._judge(part(progress, 0.0, EXAMPLES_SHARE))
        progress = part(progress, EXAMPLES_SHARE, 1.0)
        judged = [
            it for it in self.pictures if it.column in JUDGED and self.order.triggers_in(it.prompt)
        ]
        for done, picture in enumerate(judged):
            text = f"Looking at picture {done + 1} of {len(judged)}"
            progress(done / len(judged), text)
            self.emit(replace(picture, found=self._presence(judge, picture)))

    def _presence(self, judge: Judge, picture: Picture) -> tuple[tuple[str, bool], ...]:
        """What is found of the concepts that the picture's prompt names."""
        triggers, prompts = self.order.triggers_in(picture.prompt), [parse_prompt(picture.prompt)]
        some = judge.of([i for i, it in enumerate(judge.concepts) if it.phrase in triggers])
        (findings,) = some.findings(_images([picture]), prompts, stop=self.stop)
        return tuple((one.phrase, one.present) for one in findings)

    def _judge(self, progress: Progress) -> Judge:
        """The judge of all concepts that a prompt names."""
        sources = [
            read_source(pick, self.order.base, self.base.weight) for pick in self.order.picks
        ]
        embeddings = [
            *(word for source in sources for word in source.adapter.embeddings),
            *read_embeddings(self.order.words, self.base.table),
        ]
        concepts = [
            concept_of(self.base, it.weighted_adapter, it.strength, it.phrase) for it in sources
        ]
        examples = [self._examples(concept) for concept in concepts]
        named = [(one, given) for one, given in zip(concepts, examples, strict=True) if given]
        return judge_from_examples(
            self.base,
            [concept for concept, _ in named],
            [given for _, given in named],
            embeddings=embeddings,
            progress=progress,
            stop=self.stop,
        )

    def _examples(self, concept: Concept) -> Examples | None:
        """Pictures of a LoRA alone whose prompts name it, and the base's; None without any."""
        places = [
            place
            for place in self.order.scenes
            if concept.phrase in self.order.triggers_in(place[0])
        ][:MOST_EXAMPLES]
        if not places:
            return None
        alone = _at(self.pictures, places, "each", f"{concept.name} alone")
        plain = _at(self.pictures, places, "base")
        prompts = [parse_prompt(prompt) for prompt, _ in places]
        return Examples(prompts, _images(alone), _images(plain))


def _at(
    pictures: Sequence[Picture], places: Sequence[tuple[str, int]], column: str, title: str = ""
) -> list[Picture]:
    """The pictures of one column for these prompts and seeds."""
    known = {
        (it.prompt, it.seed): it
        for it in pictures
        if it.column == column and title in ("", it.title)
    }
    return [known[place] for place in places]


def _images(pictures: Sequence[Picture]) -> list[Image.Image]:
    return [Image.open(picture.path).convert("RGB") for picture in pictures]
