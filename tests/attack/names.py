"""Names and triggers of files that leave a zip's folder, begin a formula, or are no names at all.

And what may be typed as a place on the Hub, or as a base model in a public app.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from app.limits import check_base
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.card import Card
from app.schemas.export import ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from merging.errors import MergeError
from tests.attack.files import is_sentence
from tests.attack.outcome import Outcome, within
from tests.attack.running import PAIR

HOSTILE = (
    "../../../etc/cron.d/x", "..\\..\\x", "/etc/passwd", "C:\\x", "\\\\host\\share", "~/x", "..",
    "=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd",
    "\t=1+1", "\r=1+1", "a\n=1+1", 'a","=1+1', "CON", "aux.safetensors", "a" * 400, ".", "-rf",
    "x\u202egnp.exe", "名前", "%2e%2e%2fx", "a/b/c", "$(id)", "`id`", "nul\0byte", "<b>", "", " ",
)  # fmt: skip
PLACES = (
    "../../etc", "a/../b", "me/pets@../../x", "me/pets@refs/../x", "me/pets/../../x.safetensors@a",
    "mé/pets", "me/pets@ma\u0456n", "me/pets\0", "me/pets\n", "me/pets@\u202e", "-me/pets", "me",
    "/me/pets", "me/pets/x.bin", "https://evil.example/me/pets", "http://127.0.0.1/me/pets",
    "https://huggingface.co@evil.example/me/pets", "file:///etc/passwd", "me/pets@" + "a" * 5000,
    "a" * 5000, "me//pets", "", "me/pets?token=x", "~/x", "$HOME/x",
    "https://huggingface.co/me/pets/resolve/%2e%2e%2f/x.safetensors",
)  # fmt: skip
FORMULA = tuple("=+-@\t\r")


def attack(folder: Path, seconds: float = math.inf) -> Outcome:
    """Merge, export and batch with each name and trigger; type each place."""
    outcome = Outcome("hostile names: zip slip, CSV injection, places on the Hub, base models")
    studio = Studio(Settings(device="cpu", work=folder / "work", home=folder / "home"))
    made = 0
    for text in within(HOSTILE, seconds):
        for named in (True, False):
            made += judged(outcome, text, partial(check_files, outcome, studio, text, named))
    public = Studio(Settings(device="cpu", work=folder / "public", home=None, free_base=False))
    session = public.open_session()
    for place in PLACES:
        judged(outcome, place, partial(refuses, partial(public.fetch, session, place)))
        judged(outcome, place, partial(refuses, partial(check_base, public.settings, place)))
    outcome.figures = f"{made} batches and exports were made, and looked into"
    return outcome


def judged(outcome: Outcome, text: str, work: Callable[[], None]) -> bool:
    """Whether it worked; else it must have ended with a sentence."""
    try:
        work()
    except MergeError as error:
        outcome.expect(is_sentence(str(error)), f"{text[:40]!r}: {error}")
        return False
    except Exception as error:  # noqa: BLE001 -- this is what the attack looks for
        outcome.expect(False, f"{text[:40]!r}: {error!r}")
        return False
    return True


def refuses(work: Callable[[], object]) -> None:
    """RuntimeError for what should have been refused, and was not."""
    work()
    raise RuntimeError("it was taken")


def check_files(outcome: Outcome, studio: Studio, text: str, named: bool) -> None:
    """A batch and an export of the pair, whose first LoRA has this name, or this trigger."""
    session, cards = studio.open_session(), list[Card]()
    for number, path in enumerate(PAIR):
        cards.append(studio.add(session, path, cards, text if named and not number else ""))
    picks = list(map(SelectedFile.of, cards))
    if not named:
        picks[0] = replace(picks[0], trigger=text)
    order = MergeOrder(tuple(picks), method="sum")
    batch = BatchOrder(order, ("sum",), ((), ()))
    (result,) = (item for item in studio.batch(session, batch) if isinstance(item, BatchResult))
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    export = studio.take(session, ExportOrder(merged, name=text))
    for archive in (result.archive, export.archive):
        with zipfile.ZipFile(archive) as bundle:
            for entry in bundle.namelist():
                outcome.expect(stays_inside(entry), f"{text!r}: the zip has {entry!r}")
                if entry.endswith(".csv"):
                    check_table(outcome, bundle.read(entry).decode())
    kept = studio.keep(session, cards[0])
    outcome.expect(not kept, f"{text!r}: {kept}")


def stays_inside(entry: str) -> bool:
    """Whether a name in a zip is one of a file below the folder, on any system."""
    parts = PurePosixPath(entry).parts
    plain = entry.isprintable() and not set(entry) & set('\\:*?"<>|') and not entry.startswith("/")
    return plain and ".." not in parts and all(len(part) < 256 for part in parts)


def check_table(outcome: Outcome, text: str) -> None:
    """No cell that a spreadsheet would run."""
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            is_number = cell.lstrip("-").replace(".", "", 1).replace("e-", "").isdigit()
            outcome.expect(is_number or not cell.startswith(FORMULA), f"a cell is {cell!r}")
