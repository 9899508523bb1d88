"""What a card says of a file."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from app.jobs.inspect import MAX_THUMBNAIL, card
from app.schemas.card import Card
from app.ui.html.lora_card import facts_html, row_html
from merging import formats


def picture() -> str:
    """A small PNG as modelspec writes it."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def with_header(pair: tuple[Path, Path], out: Path, **fields: str) -> Card:
    """The cat with more in its header."""
    cat = formats.read(pair[0])
    named = {key.replace("__", "."): value for key, value in fields.items()}
    formats.write_kohya(cat, out, torch.float16, named)
    return card(out, "<i>cat.safetensors")


def test_a_card_shows_how_much_each_block_changes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cat = formats.read(pair[0])
    found = card(pair[0], "cat.safetensors")
    energy = sum(layer.delta().norm().item() ** 2 for layer in cat.layers.values())
    assert sum(norm**2 for norm in found.norms.values()) == pytest.approx(energy, rel=1e-4)
    assert f"text encoder {found.norms['BASE']:.3g}, IN01" in facts_html(found)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(pair[0].read_bytes()[:-2000] + b"\xff" * 2000)
    assert card(damaged, "damaged.safetensors").norms == {}


def test_words_of_the_header_are_offered_the_trigger_first(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    found = with_header(
        pair,
        tmp_path / "out.safetensors",
        modelspec__trigger_phrase="sks",
        ss_tag_frequency='{"10_sks cat": {"sks cat": 20, "grass": 7, "%s": 3}}' % ("x" * 61),
    )
    assert (found.trigger, found.class_word) == ("sks", "cat")
    assert found.words == ("sks", "sks cat", "grass")
    assert found.captions[:2] == ("sks cat", "grass")
    assert "a kind of cat" in facts_html(found)


def test_everything_the_author_wrote_is_escaped(pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = with_header(pair, tmp_path / "o.safetensors", trained_words="<b>x")
    text = row_html(found, "mini", found.trigger) + facts_html(found)
    assert "<b>" not in text and "<i>" not in text
    assert "&lt;b&gt;x" in text


def test_a_picture_in_the_header_is_shown(pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = with_header(pair, tmp_path / "o.safetensors", modelspec__thumbnail=picture())
    assert f'<img src="{picture()}" alt="&lt;i&gt;cat' in row_html(found, "mini", "")


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a.png",
        'data:image/png;base64,AAAA" onerror="x',
        "data:image/svg+xml;base64,AAAA",
        "data:image/png;base64," + "A" * MAX_THUMBNAIL,
    ],
)
def test_what_is_surely_no_picture_is_not(
    pair: tuple[Path, Path], tmp_path: Path, text: str
) -> None:
    found = with_header(pair, tmp_path / "o.safetensors", modelspec__thumbnail=text)
    assert found.thumbnail == ""
    assert "<img" not in row_html(found, "mini", "")


def test_what_will_be_dropped_is_reported(pair: tuple[Path, Path]) -> None:
    found = replace(
        card(pair[0], "cat.safetensors"),
        warnings=("2 trained biases left out.",),
        unmatched=("a", "b", "c", "d"),
        shifts="2 biases and 1 normalisation vector",
    )
    text = row_html(found, "sd15", found.trigger) + facts_html(found)
    assert "2 trained biases left out." in text
    assert "a, b, c and 1 more" in text
    assert "<dd>2 biases and 1 normalisation vector</dd>" in text
    assert f"for {found.base_title}" in text
    assert found.sha256 in text
