"""Textual inversions on the page, inside a LoRA or on a card: merged, drawn and shipped."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app.a1111_prompt import apply_prompt
from app.schemas.draw import DrawOrder, OtherMerge, Picture
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.shell_commands import merge_command
from app.ui.html.lora_card import facts_html, row_html
from merging import formats
from merging.cli.arguments.file_argument import parse_file_argument
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.embedding import Embedding
from merging.engine import merge
from merging.errors import MergeError
from merging.export.recipe import replay
from merging.export.save import RecipeBase, save
from merging.lora_file import LoraInput
from merging.request import MergeRequest, Source
from tests.app.visits import QUICK, added, finished

LITTLE = {"samples": 1, "targets": "cross-attention"}


def test_a_word_inside_a_file_gets_a_file_and_is_drawn(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    vectors = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "cat.safetensors"
    save_file(load_file(pair[0]) | {"<zz>": vectors}, file, {"modelspec.trigger_phrase": "<zz>"})
    session, cards = added(studio, [file, pair[1]])
    picks = tuple(map(SelectedFile.of, cards))
    found = finished(studio, session, MergeOrder(picks, method="sum", **QUICK))
    (words,) = found.words
    assert torch.equal(load_file(words)["<zz>"], vectors)
    assert words.name in " ".join(found.notes)
    assert str(words.parent) not in " ".join(found.notes)

    order = DrawOrder(picks, "a <zz>", merged=found.kohya, steps=2, size="64x64")
    pictures = [each for each in studio.draw(session, order) if isinstance(each, Picture)]
    base, *_, total, merged = (np.asarray(Image.open(each.path), float) for each in pictures)
    assert np.abs(merged - total).max() <= 3, "a merge by sum is the plain sum, but for fp16"
    assert np.abs(merged - base).mean() > 3


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """A file of its own, as kohya's trainer writes it: its name is the word."""
    path = tmp_path / "my word.safetensors"
    save_file({"emb_params": torch.randn(2, 128, generator=torch.Generator().manual_seed(1))}, path)
    return path


@pytest.mark.slow
def test_a_word_of_its_own_is_merged_drawn_and_shipped(
    studio: Studio, base: Base, pair: tuple[Path, Path], word: Path, tmp_path: Path
) -> None:
    """Byte for byte what the library makes of it, under the word that its card says."""
    session, cards = added(studio, [pair[0], word, pair[1]])
    found = cards[1]
    assert (found.is_word, found.trigger, found.base) == (True, "my word", "mini")
    assert "my word: 2 vectors" in facts_html(found) and "rank" not in facts_html(found)
    assert f"for {found.base_title}" in row_html(found, "sd15", found.trigger)
    cat, own, pizza = map(SelectedFile.of, cards)
    hub = "me/x/my word.safetensors@44"
    own = replace(own, trigger="zz", origin=hub)
    picks = (replace(cat, trigger="sks cat zz"), pizza)
    merged = finished(studio, session, MergeOrder(picks, words=(own,), **LITTLE))
    vectors = load_file(word)["emb_params"]
    (file,) = merged.words
    assert torch.equal(load_file(file)["zz"], vectors)

    adapters = map(formats.read, pair)
    request = MergeRequest(
        tuple(map(Source, adapters, (1.0, 1.0), ("sks cat zz", "vxz pizza"))),
        embeddings=(Embedding("zz", vectors, "my word", found.sha256, hub),),
        **LITTLE,
    )
    result = merge(request, activations(base))
    save(result, tmp_path / merged.kohya.name, merged_on=RecipeBase("mini", base.fingerprint))
    assert merged.kohya.read_bytes() == (tmp_path / merged.kohya.name).read_bytes()
    saved = merged.recipe
    assert [each["origin"] for each in saved["embeddings"]] == [hub]  # type: ignore[attr-defined]
    assert replay(saved, [s.adapter for s in request.sources], request.embeddings) == request

    def drawn(words: tuple[SelectedFile, ...]) -> bytes:
        scene = DrawOrder(
            picks, "a zz", merged=merged.kohya, steps=1, words=words, columns=("merged",)
        )
        (last,) = (item for item in studio.draw(session, scene) if isinstance(item, Picture))
        return Image.open(last.path).tobytes()

    with_it = drawn(merged.order.words)
    assert with_it != drawn(())
    other = OtherMerge(1, "the same", merged.kohya, "mini", merged.words)
    beside = DrawOrder(picks, "a zz", steps=1, columns=(), others=(other,))
    (last,) = (item for item in studio.draw(session, beside) if isinstance(item, Picture))
    assert Image.open(last.path).tobytes() == with_it, "it brings its own words"


def test_the_history_brings_a_word_back(
    studio: Studio, pair: tuple[Path, Path], word: Path
) -> None:
    session, cards = added(studio, [*pair, word])
    cat, pizza, own = map(SelectedFile.of, cards)
    own = replace(own, trigger="zz")
    merged = finished(studio, session, MergeOrder((cat, pizza), method="sum", words=(own,)))
    entry, problem = studio.remember(session, merged)
    assert (problem, entry is None) == ("", False)
    order = studio.recall(session, entry or 0).merged.order
    (back,) = order.words
    assert back.path.read_bytes() == word.read_bytes()
    assert replace(back, path=own.path) == own
    assert finished(studio, session, order).kohya.read_bytes() == merged.kohya.read_bytes()


def test_words_have_room_of_their_own_and_are_in_no_conflict(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    most = studio.settings.max_words
    files = []
    for seed in range(most + 1):
        vectors = torch.randn(1, 128, generator=torch.Generator().manual_seed(seed))
        files.append(tmp_path / f"word {seed}.safetensors")
        save_file({f"<w{seed}>": vectors}, files[-1])
    session, cards = added(studio, [*files[:most], *pair])
    with pytest.raises(MergeError, match=f"takes at most {most} textual inversions"):
        studio.add(session, files[most], cards)
    with pytest.raises(MergeError, match="the same file is on the list already"):
        studio.add(session, files[0], cards[:1])
    picks = tuple(map(SelectedFile.of, cards))
    assert len(studio.meetings(cards, picks).pairs) == 1
    filled = apply_prompt("<lora:sks-cat:0.5> <lora:word 0:0.3>", picks)
    assert [pick.strength for pick in filled.picks] == [1.0] * most + [0.5, 1.0]
    assert "Not loaded, add the file and paste again: word 0." in filled.notes
    assert "Not in the prompt, left as they are: vxz-pizza." in filled.notes


def test_a_word_for_another_base_is_refused(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    second, sd15 = tmp_path / "second.safetensors", tmp_path / "sd15.safetensors"
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, second)
    with pytest.raises(MergeError, match=r"second\.safetensors is a textual inversion for SDXL"):
        studio.add(studio.open_session(), second, [])
    save_file({"emb_params": torch.ones(1, 768)}, sd15)
    session, cards = added(studio, [*pair, sd15])
    cat, pizza, word = map(SelectedFile.of, cards)
    order = MergeOrder((cat, pizza), method="sum", words=(word,))
    with pytest.raises(MergeError, match=r"sd15\.safetensors is a textual inversion for Stable D"):
        finished(studio, session, order)
    with pytest.raises(MergeError, match="sd15: a word has at most 60 letters"):
        studio.merge(session, replace(order, words=(replace(word, trigger="x" * 61),)))


def test_a_broken_lora_is_no_word(studio: Studio, tmp_path: Path) -> None:
    """A single tensor as wide as a word's vectors, but called as a layer."""
    lone = tmp_path / "lone.safetensors"
    save_file({"lora_unet_mid_block.lora_down.weight": torch.ones(4, 768)}, lone)
    with pytest.raises(MergeError) as refused:
        studio.add(studio.open_session(), lone, [])
    assert "textual inversion" not in str(refused.value)


def test_the_command_says_the_words(word: Path) -> None:
    one = SelectedFile(word, "my word", trigger="zz", is_word=True)
    hub = SelectedFile(word, "x", is_word=True, origin="me/x/x.safetensors@44")
    lora = SelectedFile(word, "cat", origin="me/pets/cat.safetensors@44")
    command = shlex.split(merge_command(MergeOrder((lora, lora), words=(one, hub)), "o"))
    place = command.index("--embedding")
    assert command[place + 1 : place + 3] == ["my word.safetensors=zz", "me/x/x.safetensors@44"]
    assert command[4:6] == ["me/pets/cat.safetensors@44@1"] * 2
    assert parse_file_argument(command[4]) == LoraInput(Path("me/pets/cat.safetensors@44"))
