"""What is drawn: which columns, how many pictures, and what they carry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.compare_merges import side_by_side
from app.schemas.card import Card
from app.schemas.draw import COLUMNS, DrawOrder, OtherMerge, Picture, Preview
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.shell_commands import draw_commands
from merging import formats
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.files import file_sha256
from merging.io.png import UsedAdapter, read_origin

LOST = OtherMerge(1, "IterIS of a + b, no. 1", Path("lost.safetensors"), "mini")


@pytest.fixture(scope="module")
def summed(studio: Studio, pair: tuple[Path, Path]) -> tuple[str, FinishedMerge]:
    """A visit with a merge of the bundled pair."""
    session, cards = studio.open_session(), list[Card]()
    for file in pair:
        cards.append(studio.add(session, file, cards))
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    return session, merged


def drawn(studio: Studio, session: str, order: DrawOrder) -> list[Picture]:
    found = [item for item in studio.draw(session, order) if isinstance(item, Picture)]
    return order.arranged(found)


@pytest.mark.slow
def test_the_comparison_is_drawn_from_one_noise(
    studio: Studio, base: Base, summed: tuple[str, FinishedMerge]
) -> None:
    session, found = summed
    prompt = "a photo of a sks cat and a vxz pizza on a green background"
    order = DrawOrder(
        found.order.picks, prompt, merged=found.kohya, method="IterIS", seed=3, steps=3
    )
    pictures = drawn(studio, session, order)
    assert [picture.caption for picture in pictures] == [
        "Base model",
        "sks-cat alone",
        "vxz-pizza alone",
        "Loaded together",
        "Merged (IterIS)",
    ]
    adapters = [(formats.read(found.kohya), 1.0)]
    (plain,) = render(base, [prompt], [3], steps=3, guidance=order.guidance)
    (changed,) = render(base, [prompt], [3], adapters=adapters, steps=3, guidance=order.guidance)
    assert Image.open(pictures[0].path).tobytes() == plain.tobytes() != changed.tobytes()
    assert Image.open(pictures[-1].path).tobytes() == changed.tobytes()
    assert "Seed: 3" in Image.open(pictures[-1].path).info["parameters"]


@pytest.mark.slow
def test_every_prompt_with_every_seed_in_every_column(
    studio: Studio, summed: tuple[str, FinishedMerge]
) -> None:
    session, merged = summed
    order = DrawOrder(
        merged.order.picks,
        "a sks cat\n\n a vxz pizza ",
        merged=merged.kohya,
        method="Sum",
        seed=5,
        count=2,
        steps=1,
        columns=(*COLUMNS, "gated"),
        maps=True,
    )
    pictures = drawn(studio, session, order)
    assert len(pictures) == 6 * 4, "base, two alone, the sum, the gate, the merge"
    assert len({picture.path for picture in pictures}) == len(pictures)
    assert [picture.caption for picture in pictures[-4:]] == [
        f"Merged (Sum) · prompt {prompt} · seed {seed}" for prompt in (1, 2) for seed in (5, 6)
    ]
    for picture in pictures:
        assert [phrase for phrase, _ in picture.maps] == ["sks cat", "vxz pizza"]
        assert all(Image.open(path).size == (128, 128) for _, path in picture.maps)


def test_a_picture_says_what_it_was_drawn_from(
    studio: Studio, summed: tuple[str, FinishedMerge], pair: tuple[Path, Path]
) -> None:
    """Recipe and all: enough to merge and draw the very same again."""
    session, merged = summed
    order = DrawOrder(
        merged.order.picks, "a sks cat", merged=merged.kohya, negative="dog", steps=1,
        sampler="Euler a", columns=("merged", "sum"),
    )  # fmt: skip
    together, last = drawn(studio, session, order)
    origin, recipe = read_origin(last.path)
    assert recipe == json.loads(json.dumps(merged.recipe))
    assert (origin.negative, origin.sampler, origin.steps) == ("dog", "Euler a", 1)
    origin, recipe = read_origin(together.path)
    assert recipe is None
    assert [used.name for used in origin.adapters] == ["sks-cat", "vxz-pizza"]
    assert isinstance(origin.adapters[0], UsedAdapter) and len(origin.adapters[0].sha256) == 64


@pytest.mark.slow
def test_merges_of_before_stand_beside_the_one_of_now(
    studio: Studio, base: Base, summed: tuple[str, FinishedMerge]
) -> None:
    """From the same noise, each from its own file, and all of it comes back from the history."""
    session, total = summed
    cat, pizza = total.order.picks
    asked = MergeOrder((replace(cat, strength=0.5), pizza), method="average")
    (mean,) = (item for item in studio.merge(session, asked) if isinstance(item, FinishedMerge))
    history, prompt = studio.history(session), "a photo of a sks cat and a vxz pizza"
    assert history.merges(9, mean) == []
    entries = [studio.remember(session, merged)[0] or 0 for merged in (mean, total, mean)]
    assert [entry.id for entry in history.merges(9)] == entries[1::-1], "each by its first entry"
    (listed,) = history.merges(9, total)
    name = f"Weighted average of sks-cat at 0.5 + vxz-pizza, no. {entries[0]}"
    assert (listed.id, listed.name) == (entries[0], name)

    others = studio.others(session, [listed.id], "mini")
    order = DrawOrder(
        total.order.picks, prompt, merged=total.kohya, method=total.method, steps=2,
        columns=("merged",), others=others,
    )  # fmt: skip
    pictures = drawn(studio, session, order)
    assert [picture.caption for picture in pictures] == ["Merged (Weighted sum)", name]
    for picture, merged in zip(pictures, (total, mean), strict=True):
        adapters = [(formats.read(merged.kohya), 1.0)]
        (alone,) = render(base, [prompt], [0], adapters=adapters, steps=2, guidance=order.guidance)
        assert Image.open(picture.path).tobytes() == alone.tobytes()
        origin, recipe = read_origin(picture.path)
        assert recipe == json.loads(json.dumps(merged.recipe))
        (used,) = origin.adapters
        assert (used.sha256, used.strength) == (file_sha256(merged.kohya), 1.0)
    mine, theirs = (Image.open(picture.path).tobytes() for picture in pictures)
    assert mine != theirs
    assert f"--adapter {mean.kohya.name} " in draw_commands(order).splitlines()[-1]

    studio.remember(session, total, order, pictures, entries[1])
    history.forget(entries[0])
    kept = studio.recall(session, entries[1])
    assert kept.scene is not None
    again = drawn(studio, session, kept.scene)
    assert [Image.open(picture.path).tobytes() for picture in again] == [mine, theirs]
    ((_, same, _),) = side_by_side(kept, kept)
    assert same == kept.pictures[0].path, "the other merge's picture is not this one's"
    with pytest.raises(MergeError, match=f"no. {entries[0]} cannot be drawn: .* no longer in"):
        studio.others(session, [entries[0]], "mini")
    with pytest.raises(
        MergeError, match=f"no. {entries[1]}: made for .* mini .* are drawn with Stable"
    ):
        studio.others(session, [entries[1]], "sd15")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "a\n" * 9, "count": 2}, "9 prompts with 2 seeds each are 18 pictures"),
        ({"count": 0}, "0 pictures"),
        ({"columns": ()}, "at least one column"),
        ({"columns": ("magic",)}, "at least one column"),
        ({"negative": "x" * 501}, "501"),
        ({"others": (LOST,) * 7}, "At most 4 other merges"),
        ({"others": (LOST,)}, r"no\. 1: its file lost\.safetensors is gone"),
    ],
)
def test_too_much_is_refused(studio: Studio, change: dict, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        studio.draw(studio.open_session(), replace(DrawOrder((), "a cat"), **change))


def test_the_gate_needs_triggers(studio: Studio, bad_files: dict[str, Path]) -> None:
    session = studio.open_session()
    nameless = SelectedFile.of(studio.add(session, bad_files["silent"], []))
    order = DrawOrder((nameless, nameless), "a cat", steps=1, columns=("gated",))
    with pytest.raises(MergeError, match="trigger phrase"):
        drawn(studio, session, order)


@pytest.mark.slow
def test_long_steps_are_shown_while_they_last(
    studio: Studio, summed: tuple[str, FinishedMerge], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every step is long: a Preview for every picture, and only if they are asked for."""
    session, merged = summed
    order = DrawOrder(merged.order.picks, "a sks cat", steps=2, columns=("base", "sum"), count=2)
    monkeypatch.setattr("app.jobs.draw.PREVIEW_SECONDS", 0.0)
    assert not [item for item in studio.draw(session, order) if isinstance(item, Preview)]
    items = list(studio.draw(session, replace(order, previews=True)))
    previews = [item for item in items if isinstance(item, Preview)]
    pictures = [item for item in items if isinstance(item, Picture)]
    assert {it.picture.caption for it in previews} == {it.caption for it in pictures}
    assert len({it.picture.path for it in previews}) == len(previews)
    small, whole = (Image.open(it.path).size for it in (previews[0].picture, pictures[0]))
    assert (small, whole) == ((16, 16), (128, 128))
