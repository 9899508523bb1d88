"""Calibration prompts of one LoRA, written into its drawer to be edited."""

from __future__ import annotations

from dataclasses import dataclass

from app.prompts import template_prompts
from app.service import Studio
from app.ui.common import Updates, Values
from app.ui.handlers.form import Form
from merging.calibration.prompts import tag_prompts


@dataclass(frozen=True)
class CalibrationPrompts:
    """The prompts of the LoRA that the drawer is about."""

    studio: Studio
    form: Form

    def templates(self, values: Values) -> Updates:
        """Write out the prompts that are made from its trigger words."""
        options, pick = self.form.options, self.form.picks(values)[self.form.opened(values)]
        count, seed = int(values[options["samples"]]), int(values[options["seed"]] or 0)
        return self._filled(template_prompts(pick.trigger, count, seed))

    def captions(self, values: Values) -> Updates:
        """Write prompts from the training captions in the file."""
        place = self.form.opened(values)
        card, pick = values[self.form.cards][place], self.form.picks(values)[place]
        return self._filled(tag_prompts(pick.trigger, card.captions))

    def _filled(self, prompts: tuple[str, ...]) -> Updates:
        text = "\n".join(prompts[: self.studio.settings.max_lines])
        return {self.form.drawer.prompts: text}
