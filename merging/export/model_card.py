"""The README of a merged adapter: its sources and their licences, and how to use it."""

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
class SourceTerms:
    """Licence and author in the header of a source's file, "" where it has none."""

    name: str
    licence: str = ""
    author: str = ""


def terms_of_source(name: str, metadata: Mapping[str, str]) -> SourceTerms:
    """Read from the header of a source's file."""
    texts = {key: metadata.get(field, "") for key, field in FIELDS.items()}
    return SourceTerms(name, **{key: " ".join(text.split()) for key, text in texts.items()})


def model_card(
    title: str,
    recipe: Mapping[str, Any],
    all_terms: Sequence[SourceTerms],
    trigger: str,
    files: Sequence[str],
    checks: Sequence[str],
    pictures: Sequence[tuple[str, str]] = (),
) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads.

    ``files`` are names of adapter files, ``checks`` sentences on them, ``pictures`` (caption, file
    name). Nothing is in the text that is not in the recipe, the sources' headers or the checks.
    """
    method = METHODS[recipe["method"]]
    parts = [
        _front_matter(recipe, all_terms, trigger),
        f"# {_cell(title)}",
        f"Made with IterIS Studio by {method.title} ({method.source}) of the LoRAs below; "
        "nothing was trained, and all of them were changed by it.",
        f"Trigger words: **{_cell(trigger)}**" if trigger else "",
        _pictures(pictures),
        "## Sources",
        _sources(recipe, all_terms),
        "A merge stays under the licences of all its sources, and under that of the base model: "
        "CreativeML Open RAIL-M for Stable Diffusion 1.5.",
        "## Files",
        "\n".join(f"- `{name}`" for name in files),
        "\n".join(f"- {_cell(check)}" for check in checks),
        "To check the sources: `python -m merging verify MERGED.safetensors FILE…`. "
        "To merge again from the recipe (`recipe.json`, also in the adapter's header): "
        "`python -m merging replay MERGED.safetensors FILE…`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(recipe: Mapping[str, Any], all_terms: Sequence[SourceTerms], trigger: str) -> str:
    """The YAML front matter; the library quotes what users wrote."""
    licences = {terms.licence for terms in all_terms}
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


def _sources(recipe: Mapping[str, Any], all_terms: Sequence[SourceTerms]) -> str:
    terms_by_name = {terms.name: terms for terms in all_terms}
    rows = [
        "| LoRA | strength | trigger | author | licence | from | SHA-256 |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in recipe["sources"]:
        terms = terms_by_name.get(source["name"], SourceTerms(source["name"]))
        cells = (
            source["name"],
            describe_strength(**{key: source[key] for key in STRENGTHS if key in source}),
            source["trigger"],
            terms.author or "unknown",
            terms.licence or UNKNOWN,
            source.get("origin") or "a local file",
            f"`{source['sha256']}`",
        )
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """The text in one line, with characters escaped that would end a cell or start a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _pictures(pictures: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"![{_cell(caption)}]({name})" for caption, name in pictures)
