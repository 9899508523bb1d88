"""HTML from the Jinja templates; every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from merging.io.html_templates import html_templates

TEMPLATES = html_templates(Path(__file__).with_name("templates"))


def render_template(template: str, **values: Any) -> str:
    """The HTML of ``templates/{template}.html`` with these values."""
    return TEMPLATES.get_template(f"{template}.html").render(values).strip()
