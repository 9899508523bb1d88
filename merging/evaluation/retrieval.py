"""How well the library's suggestions find the LoRAs of a prompt, measured with the bundled ones.

Every pair of their objects is asked for as “a photo of a cat beside a pizza”, without triggers. A
LoRA of either object should come first. Two libraries: the LoRAs as they ship, whose triggers have
the object's word, and the same without any word, of which only a preview picture tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean

from PIL import Image

from merging.bundled import BundledLora, shelf
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.retrieval.clip_reader import ClipReader, Look
from merging.retrieval.ranking import Evidence, fits
from merging.retrieval.words import texts_of
from merging.runtime.progress import Progress

STEPS, SEED = 20, 0  # of a preview picture
FIRST = 2  # places that are looked at: one for each object of a prompt


@dataclass(frozen=True)
class Shelved:
    """A bundled LoRA in a library."""

    trigger: str
    name: str
    words: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class RetrievalFigures:
    """What one way of looking gives in one library."""

    library: str
    way: str
    recall: float  # share of the objects that have a LoRA among the first two
    rank: float  # mean place of an object's first LoRA; one that is not suggested comes last
    suggested: float  # LoRAs for a prompt, on average


def evaluate_retrieval(
    base: Base, reader: ClipReader, folder: Path, progress: Progress
) -> list[RetrievalFigures]:
    """Draw each LoRA alone into ``folder``, unless it is there, and rank them for every prompt."""
    loras, figures = shelf(), list[RetrievalFigures]()
    pictures = _previews(base, loras, folder, progress)
    libraries = {
        "as shipped": [Shelved(lora.trigger, Path(lora.file).stem) for lora in loras],
        "previews alone": [Shelved("", f"{place}") for place in range(len(loras))],
    }
    for library, entries in libraries.items():
        texts = [reader.look(texts_of(entry), None) for entry in entries]
        looking = replace(reader, pictures=True)
        both = [
            looking.look(texts_of(entry), picture)
            for entry, picture in zip(entries, pictures, strict=True)
        ]
        ways = {
            "words": None,
            "words, CLIP on words": _evidence(reader, texts),
            "words, CLIP on words and previews": _evidence(reader, both),
        }
        figures += [
            _figures(library, way, loras, entries, evidence) for way, evidence in ways.items()
        ]
    return figures


def table(figures: Sequence[RetrievalFigures]) -> str:
    """The figures as Markdown."""
    head = "| library | looked at | recall at 2 | mean rank | suggested |\n" + "| --- " * 5 + "|"
    rows = (
        f"| {row.library} | {row.way} | {row.recall:.2f} | {row.rank:.1f} | {row.suggested:.1f} |"
        for row in figures
    )
    return "\n".join([head, *rows])


def _evidence(reader: ClipReader, looks: Sequence[Look]) -> Evidence:
    return lambda things, places: reader.evidence(things, [looks[place] for place in places])


def _figures(
    library: str,
    way: str,
    loras: Sequence[BundledLora],
    entries: Sequence[Shelved],
    evidence: Evidence | None,
) -> RetrievalFigures:
    objects = sorted({lora.object for lora in loras if lora.kind == "object"})
    found, ranks, sizes = list[bool](), list[int](), list[int]()
    for pair in combinations(objects, 2):
        prompt = "a photo of a {} beside a {}".format(*pair)
        order = [loras[fit.place].object for fit in fits(prompt, entries, evidence)]
        ranks += [order.index(it) + 1 if it in order else len(loras) for it in pair]
        found += [it in order[:FIRST] for it in pair]
        sizes.append(len(order))
    return RetrievalFigures(library, way, fmean(found), fmean(ranks), fmean(sizes))


def _previews(
    base: Base, loras: Sequence[BundledLora], folder: Path, progress: Progress
) -> list[Image.Image]:
    """A picture of each LoRA alone; of a style, a dog in it."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for done, lora in enumerate(loras):
        file = folder / f"{Path(lora.file).stem}.png"
        if not file.is_file():
            progress(done / len(loras), f"Drawing {lora.trigger}")
            thing = lora.trigger if lora.kind == "object" else f"dog in {lora.trigger}"
            adapters = [(lora.adapter(base.table), 1.0)]
            prompt = f"a photo of a {thing}"
            (image,) = render(base, [prompt], [SEED], adapters=adapters, steps=STEPS)
            image.save(file)
        pictures.append(Image.open(file).convert("RGB"))
    progress(1.0, "previews drawn")
    return pictures
