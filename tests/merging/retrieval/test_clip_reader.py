"""What CLIP makes of prompts and LoRAs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging.base_models import MINI, SD15
from merging.bundled import shelf
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.retrieval.clip_reader import ClipReader, load_reader
from merging.scoring.clip import load_clip

OBJECTS = [lora for lora in shelf() if lora.kind == "object"]


@pytest.fixture(scope="module")
def reader() -> ClipReader:
    return load_reader()


def test_a_lora_s_own_object_is_distinguished_from_all_others(reader: ClipReader) -> None:
    """By its trigger alone, in which the small CLIP knows one word."""
    looks = [reader.look([lora.trigger], None) for lora in OBJECTS]
    for name in {lora.object for lora in OBJECTS}:
        evidence = reader.evidence([name], looks)
        own = [lora.object == name for lora in OBJECTS]
        assert [strength > 0.5 for strength in evidence] == own, name


def test_what_the_small_clip_does_not_know_is_no_evidence(reader: ClipReader) -> None:
    look = reader.look(["sks cat"], None)
    assert reader.small and not reader.pictures
    assert reader.evidence(["zeppelin", "very fine print"], [look]) == [0.0]
    assert reader.evidence(["red cat"], [look]) == reader.evidence(["cat"], [look])
    assert reader.evidence(["cat"], [reader.look(["vxz"], None)]) == [0.0]


def test_a_kept_look_is_the_same(reader: ClipReader) -> None:
    for texts in (["sks cat", "pizza"], ["unknown"]):
        fresh = reader.look(texts, None)
        kept = reader.kept_look(texts, fresh.data)
        assert torch.equal(kept.vectors, fresh.vectors) and kept.words == fresh.words


def test_a_preview_shows_what_is_in_it(reader: ClipReader, base: Base) -> None:
    """Of pictures that a CLIP knows: the small one those of the embedded base itself."""
    looking = replace(reader, pictures=True)
    names = ["dog", "pizza"]
    pictures = render(base, [f"a photo of a {name}" for name in names], [0, 0], steps=12)
    looks = [looking.look([], picture) for picture in pictures]
    for name, own in zip(names, looks, strict=True):
        evidence = looking.evidence([name], looks)
        assert max(evidence) == looking.evidence([name], [own])[0] > 0.5


def test_a_word_beyond_the_forty_need_not_beat_the_lora_s_own(reader: ClipReader) -> None:
    """As with OpenAI's CLIP, which knows it: “kitty” may fit a cat."""
    knowing = replace(reader, small=False)
    look = knowing.look(["cat"], None)
    ((margin,),) = (look.vectors @ look.vectors.T).tolist()
    assert margin == pytest.approx(1.0)
    assert knowing.evidence(["cat cat"], [look])[0] > knowing.evidence(["dog"], [look])[0]


def test_nothing_is_downloaded() -> None:
    with pytest.raises(MergeError, match="cannot be loaded"):
        load_clip("nobody/has-this-clip", download=False)


@pytest.mark.slow
def test_openai_s_clip_is_taken_where_it_is(tmp_path: Path) -> None:
    """From the Hub's cache; the small one's files stand in for its weights."""
    folder = tmp_path / "hub" / f"models--{SD15.clip.replace('/', '--')}"
    shutil.copytree(MINI.clip, folder / "snapshots" / "0")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    code = (
        "from merging.retrieval.clip_reader import load_reader\n"
        "reader = load_reader()\n"
        "assert reader.pictures and not reader.small"
    )
    cache = {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **cache})
