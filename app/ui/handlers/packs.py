"""The LoRAs of a pack that was dropped on the page become rows like any others."""

from __future__ import annotations

from typing import Any

from app.schemas.pack import OpenedPack
from app.ui.common import QUIET, Updates, Values, error_sentence
from app.ui.handlers.files import FileHandlers
from merging.errors import MergeError


def add_members(listing: FileHandlers, values: Values) -> Updates:
    """Make rows of the ticked LoRAs."""
    widgets, form = listing.adding.packs, listing.form
    pack, files, problems = values[widgets.pack], [], list[str]()
    assert isinstance(pack, OpenedPack)
    for name in values[widgets.members] or []:
        try:
            files.append(listing.studio.unpack(values[form.session], pack, name))
        except MergeError as error:
            problems.append(error_sentence(error))
    added = listing.add_cards(values, files, list(values[form.cards]), problems)
    return added | {widgets.members: []}


def wire_packs(listing: FileHandlers) -> Any:
    """Connect the button; returns the event that adds to the list."""
    widgets, form = listing.adding.packs, listing.form
    return widgets.add.click(
        listing.safely(lambda values: add_members(listing, values)),
        {*form.inputs, widgets.pack, widgets.members},
        {*form.outputs, *listing.bases.outputs, widgets.members},
        **QUIET,
    )
