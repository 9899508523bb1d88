"""The README of a merged adapter: what it was made of, under which licences, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from merging.base_models import base_model
from merging.block_weights import describe_strength
from merging.methods import METHODS

FIELDS = {"licence": "modelspec.license", "author": "modelspec.author"}  # of a source's header
STRENGTHS = ("strength", "text_encoder", "unet", "blocks")  # of a source in a recipe
UNKNOWN = "not in its file: ask its author"


@dataclass(frozen=True)
class SourceNote:
    """What a source's file says of its author's terms, "" where it says nothing."""

    name: str
    licence: str = ""
    author: str = ""


def source_note(name: str, metadata: Mapping[str, str]) -> SourceNote:
    """From the header of a source's file."""
    said = {key: metadata.get(field, "") for key, field in FIELDS.items()}
    return SourceNote(name, **{key: " ".join(text.split()) for key, text in said.items()})


def model_card(
    title: str,
    recipe: Mapping[str, Any],
    notes: Sequence[SourceNote],
    trigger: str,
    files: Sequence[str],
    checks: Sequence[str],
    pictures: Sequence[tuple[str, str]] = (),
) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads.

    ``files`` are names of adapter files, ``checks`` sentences on them, ``pictures`` (caption, file
    name). Only what the recipe, the sources' headers and the checks say is said.
    """
    method = METHODS[recipe["method"]]
    parts = [
        _front_matter(recipe, notes, trigger),
        f"# {_cell(title)}",
        f"Made with IterIS Studio by {method.title} ({method.source}) of the LoRAs below; "
        "nothing was trained, and all of them were changed by it.",
        f"Words that call it: **{_cell(trigger)}**" if trigger else "",
        _pictures(pictures),
        "## Made of",
        _sources(recipe, notes),
        "A merge stays under the terms of everything that it was made of, the base model's among "
        "them: CreativeML Open RAIL-M for Stable Diffusion 1.5.",
        "## Files",
        "\n".join(f"- `{name}`" for name in files),
        "\n".join(f"- {_cell(check)}" for check in checks),
        "`recipe.json`, which is in the adapter's header too, redoes it: "
        "`python -m merging replay MERGED.safetensors FILE…`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(recipe: Mapping[str, Any], notes: Sequence[SourceNote], trigger: str) -> str:
    """YAML: everything that somebody wrote is quoted by the library."""
    licences = {note.licence for note in notes}
    fields: dict[str, Any] = {
        "license": "other",
        "license_name": licences.pop() if len(licences) == 1 and "" not in licences else "mixed",
        "tags": ["lora", "stable-diffusion", "text-to-image", "merge", "iteris-studio"],
        "pipeline_tag": "text-to-image",
    }
    if hub_id := base_model(recipe.get("base", "")).hub_id:
        fields["base_model"] = hub_id
        fields["base_model_relation"] = "adapter"
    if trigger:
        fields["instance_prompt"] = " ".join(trigger.split())
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _sources(recipe: Mapping[str, Any], notes: Sequence[SourceNote]) -> str:
    told = {note.name: note for note in notes}
    rows = [
        "| LoRA | strength | trigger | author | licence | SHA-256 |",
        "|---|---|---|---|---|---|",
    ]
    for source in recipe["sources"]:
        note = told.get(source["name"], SourceNote(source["name"]))
        cells = (
            source["name"],
            describe_strength(**{key: source[key] for key in STRENGTHS if key in source}),
            source["trigger"],
            note.author or "unknown",
            note.licence or UNKNOWN,
            f"`{source['sha256'][:16]}…`",
        )
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """One line that ends no cell and starts no tag, whatever a file called itself."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _pictures(pictures: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"![{_cell(caption)}]({name})" for caption, name in pictures)
