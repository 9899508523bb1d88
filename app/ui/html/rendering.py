"""HTML from the Jinja templates; every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_template(template: str, **values: Any) -> str:
    """The HTML of ``templates/{template}.html`` with these values."""
    return TEMPLATES.get_template(f"{template}.html").render(values).strip()
