"""Textual inversions on the page: inside a LoRA they go through the merge and into the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app.orders import MergeOrder, Pick
from app.scenes import DrawOrder, Picture
from app.service import Studio
from tests.app.test_service import QUICK, added, finished


def test_a_word_inside_a_file_gets_a_file_and_is_drawn(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    vectors = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "cat.safetensors"
    save_file(load_file(pair[0]) | {"<zz>": vectors}, file, {"modelspec.trigger_phrase": "<zz>"})
    session, cards = added(studio, [file, pair[1]])
    picks = tuple(map(Pick.of, cards))
    found = finished(studio, session, MergeOrder(picks, method="sum", **QUICK))
    (words,) = found.words
    assert torch.equal(load_file(words)["<zz>"], vectors)
    assert words.name in " ".join(found.notes)
    assert str(words.parent) not in " ".join(found.notes)

    order = DrawOrder(picks, "a <zz>", merged=found.kohya, steps=2)
    pictures = [each for each in studio.draw(session, order) if isinstance(each, Picture)]
    base, *_, total, merged = (np.asarray(Image.open(each.path), float) for each in pictures)
    assert np.abs(merged - total).max() <= 3, "a merge by sum is the plain sum, but for fp16"
    assert np.abs(merged - base).mean() > 3
