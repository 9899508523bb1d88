"""The declaration of a setting: its names and its allowed values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from merging.errors import MergeError

Value = str | float  # in settings.toml; a number for settings that are numbers


@dataclass(frozen=True)
class Setting:
    """A field of Settings with its variable, flag, title and bounds."""

    name: str  # of the field, and in settings.toml
    type: Any  # of the field
    field_default: Any  # MISSING where there is none
    variable: str  # of the environment
    section: str  # of the page's settings
    title: str  # on the page
    about: str = ""  # a hint, on the page and in --help
    low: float | None = None
    high: float | None = None
    offered: tuple[str, ...] = ()  # suggested values on the page; others are allowed
    pattern: str | None = None  # of a text, as a regular expression
    unset: str = ""  # what the page shows in the field where nothing is set

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, if there is a list of them."""
        if self.type is bool:
            return ("off", "on")
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def is_number(self) -> bool:
        """Whether the setting is a number."""
        return self.type in (int, float)

    @property
    def default(self) -> Value:
        """The default as in settings.toml, "" if it cannot be written there."""
        if self.type is bool:
            return self.choices[self.field_default]
        return self.field_default if isinstance(self.field_default, str | int | float) else ""

    @property
    def hint(self) -> str:
        """The bounds and the hint."""
        return ", ".join(filter(None, [self._range(), self.about]))

    def read(self, text: str, name: str = "") -> Any:
        """The field's value from text; MergeError, which begins with ``name``, for a wrong one."""
        value = text.strip().lower() if self.choices or self.pattern else text.strip()
        limits = Field(ge=self.low, le=self.high, pattern=self.pattern)
        try:
            return TypeAdapter(Annotated[self.type, limits]).validate_python(value)
        except ValidationError as error:
            start = name or self.variable
            raise MergeError(f"{start} must be {self._allowed()}, not {value!r}.") from error

    def written(self, text: str) -> Value:
        """The value in settings.toml for this text, the default for "". MergeError as ``read``."""
        if not text.strip():
            return self.default
        value = self.read(text, self.name)
        if self.type is bool:
            return self.choices[value]
        return value if isinstance(value, str | int | float) else text.strip()

    def _allowed(self) -> str:
        if self.is_number:
            kind = "a whole number" if self.type is int else "a number"
            return f"{kind} from {self._range()}"
        *first, last = self.choices or self.offered
        return f"{', '.join(first)} or {last}"

    def _range(self) -> str:
        return "" if self.low is None else f"{self.low:.12g} to {self.high:.12g}"


def setting(
    default: Any, variable: str, section: str, title: str, about: str = "", **more: Any
) -> Any:
    """Declare a setting as a dataclass field; ``more`` are further fields of Setting."""
    declared = {"variable": variable, "section": section, "title": title, "about": about, **more}
    return field(default=default, metadata=declared)


def settings_of(kind: type) -> dict[str, Setting]:
    """All settings declared in a dataclass, by name."""
    types = get_type_hints(kind, include_extras=True)
    return {
        item.name: Setting(item.name, types[item.name], item.default, **item.metadata)
        for item in fields(kind)
        if item.metadata
    }
