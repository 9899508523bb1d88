"""Merges and pictures of before: kept whole, opened again, made again, compared, deleted."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.compare_merges import differences, side_by_side
from app.jobs.export import ExportOrder
from app.schemas.draw import Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.storage.history import History, OpenedEntry
from merging.errors import MergeError
from merging.io.files import RECIPE_KEY
from tests.app.storage.conftest import Made


@pytest.fixture
def home(studio: Studio, settings: Settings, tmp_path: Path) -> Iterator[Studio]:
    """A person's own machine, with an empty home."""
    yield Studio(replace(settings, work=tmp_path / "work", home=tmp_path / "home"))


def recalled(history: History, entry: int, folder: Path, merged: FinishedMerge) -> OpenedEntry:
    """An entry, with the LoRAs where the merge has them."""
    sources = merged.recipe["sources"]
    hashes = [source["sha256"] for source in sources]  # type: ignore[attr-defined]
    paths = dict(zip(hashes, [pick.path for pick in merged.order.picks], strict=True))
    folder.mkdir(exist_ok=True)
    return history.open(entry, folder, paths.__getitem__)


def without_paths(merged: FinishedMerge) -> FinishedMerge:
    nowhere = Path()
    return replace(merged, kohya=nowhere, diffusers=nowhere)


def test_an_entry_comes_back_as_it_was(history: History, made: Made, tmp_path: Path) -> None:
    _, merged, scene, pictures = made
    entry = history.keep(merged, scene, pictures)
    back = recalled(history, entry, tmp_path / "back", merged)
    assert without_paths(back.merged) == without_paths(merged)
    for one, other in (
        (back.merged.kohya, merged.kohya),
        (back.merged.diffusers, merged.diffusers),
    ):
        assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())
    assert back.scene == replace(scene, merged=back.merged.kohya)
    assert [picture.caption for picture in back.pictures] == [each.caption for each in pictures]
    for mine, theirs in zip(back.pictures, pictures, strict=True):
        assert mine.path.read_bytes() == theirs.path.read_bytes()
        assert [phrase for phrase, _ in mine.maps] == [phrase for phrase, _ in theirs.maps]
    assert json.loads(json.dumps(merged.recipe)) == back.merged.recipe
    assert RECIPE_KEY.encode() in back.merged.kohya.read_bytes()


def test_the_list_begins_with_the_newest(history: History, made: Made) -> None:
    _, merged, scene, pictures = made
    first = history.keep(merged)
    second = history.keep(merged, replace(scene, seed=7), pictures)
    assert history.keep(merged, scene, pictures, first) == first, "its pictures came later"
    newest, oldest = history.entries(0, 5)
    assert (newest.id, oldest.id) == (second, first)
    assert newest.method == "Weighted sum"
    assert newest.loras == (("sks-cat", 0.9), ("vxz-pizza", 1.0))
    assert (newest.seed, oldest.seed, newest.pictures) == (7, 3, 10)
    captions = [caption for caption, _ in newest.thumbnails]
    assert captions == [picture.caption for picture in pictures[::2]]
    assert all(data.startswith("data:image/webp;base64,") for _, data in newest.thumbnails)
    assert [entry.id for entry in history.entries(1, 1)] == [first]
    assert history.size()[0] == 2


def test_deleting_one_leaves_what_others_have(history: History, made: Made, tmp_path: Path) -> None:
    _, merged, scene, pictures = made
    alone, drawn = history.keep(merged), history.keep(merged, scene, pictures)
    files = {path.name for path in (tmp_path / "history").iterdir()}
    history.forget(alone)
    assert {path.name for path in (tmp_path / "history").iterdir()} == files
    assert recalled(history, drawn, tmp_path / "back", merged).merged.kohya.is_file()
    history.forget(drawn)
    assert [path.name for path in (tmp_path / "history").iterdir()] == ["index.sqlite"]
    with pytest.raises(MergeError, match="no longer in the history"):
        recalled(history, drawn, tmp_path / "back", merged)
    assert history.keep(merged) not in (alone, drawn), "a page that still shows it meets no other"


def test_what_is_gone_or_strange_is_reported(history: History, made: Made, tmp_path: Path) -> None:
    _, merged, *_ = made
    entry = history.keep(merged)
    for path in (tmp_path / "history").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(MergeError, match=r"^sum_sks-cat.* is missing in the history's folder"):
        recalled(history, entry, tmp_path / "back", merged)
    with history._index() as index:
        index.execute("update moments set merge = '{}'")
    with pytest.raises(MergeError, match="kept by another version"):
        recalled(history, entry, tmp_path / "back", merged)
    (tmp_path / "history" / "index.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(MergeError, match=r"^The history's index index\.sqlite cannot be read"):
        history.entries(0, 5)


def test_a_full_disk_is_reported_and_leaves_nothing(
    home: Studio, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, merged, *_ = made

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.storage.sessions.os.link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    entry, said = home.remember(home.open_session(), merged)
    assert entry is None
    assert said.endswith("could not be saved in the history (No space left on device).")
    assert not list((tmp_path / "home" / "history").iterdir())


def test_the_oldest_go_when_there_is_too_much_and_what_is_open_stays(
    home: Studio, made: Made, tmp_path: Path
) -> None:
    """Files of 2 MB each, under a limit of 5; then one that is larger than the limit itself."""
    studio = Studio(replace(home.settings, max_history_mb=5))
    session, said, ids = studio.open_session(), list[str](), list[int | None]()
    for place, size in enumerate((2, 2, 2, 6)):
        file = tmp_path / f"{place}.safetensors"
        file.write_bytes(bytes([place]) * (size << 20))
        entry, words = studio.remember(session, replace(made[1], kohya=file, diffusers=file))
        ids.append(entry)
        said.append(words)
        if not place:
            opened = studio.recall(session, entry or 0)
    assert said[:2] == ["", ""]
    one = "Weighted sum of sks-cat + vxz-pizza"
    assert said[2].endswith(f"5 MB (max_history_mb): its oldest entries were deleted, {one}.")
    assert f"deleted, {one}, {one}; what is ticked “Keep” stays" in said[3]
    assert said[3].endswith("it has 6 MB now.")
    assert [each.id for each in studio.history(session).entries(0, 9)] == ids[3:]
    assert opened.merged.kohya.read_bytes() == bytes(2 << 20)


def test_what_is_pinned_is_never_taken(home: Studio, made: Made, tmp_path: Path) -> None:
    """Files of 2 MB each under a limit of 5, the oldest one pinned, in an index of before."""
    studio = Studio(replace(home.settings, max_history_mb=5))
    session, ids = studio.open_session(), list[int]()

    def remember(number: int) -> str:
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(bytes([number]) * (2 << 20))
        entry, words = studio.remember(session, replace(made[1], kohya=file, diffusers=file))
        ids.append(entry or 0)
        return words

    def listed() -> list[tuple[int, bool]]:
        return [(each.id, each.pinned) for each in studio.history(session).entries(0, 9)]

    remember(0)
    with sqlite3.connect(tmp_path / "home" / "history" / "index.sqlite") as index:
        index.execute("alter table moments drop column pinned")
    studio.history(session).pin(ids[0], True)
    assert [remember(1), "Keep" in remember(2)] == ["", False]
    assert listed() == [(ids[2], False), (ids[0], True)], "the second one went in its place"
    studio.history(session).pin(ids[2], True)
    assert remember(3).endswith("what is ticked “Keep” stays, as does what was just made: it has "
                                "6 MB now.")  # fmt: skip
    assert len(listed()) == 3
    studio.history(session).pin(ids[0], False)
    remember(4)
    assert listed() == [(ids[4], False), (ids[2], True)]
    with pytest.raises(MergeError, match="no longer in the history"):
        studio.history(session).pin(ids[0], True)


def test_at_home_it_stays_and_in_public_it_is_each_visitor_s_own(
    home: Studio, settings: Settings, made: Made, tmp_path: Path
) -> None:
    _, merged, *_ = made
    entry, said = home.remember(home.open_session(), merged)
    assert (entry is not None, said) == (True, "")
    later = Studio(home.settings)
    assert [each.id for each in later.history("").entries(0, 5)] == [entry]

    public = Studio(replace(settings, work=tmp_path / "public", home=None))
    mine, other = public.open_session(), public.open_session()
    own, _ = public.remember(mine, merged)
    assert own is not None and public.history(other).entries(0, 5) == []
    with pytest.raises(MergeError, match="no longer in the history"):
        public.recall(other, own)
    with pytest.raises(MergeError, match="expired"):
        public.history("")
    assert public.begun(mine) and not public.begun("")
    public.store.sweep()
    assert public.history(mine).size()[0] == 1
    shutil.rmtree(public.store.folder(mine))
    with pytest.raises(MergeError, match="expired"):
        public.history(mine)


def test_the_same_merge_again_gives_the_same_bytes(
    home: Studio, studio: Studio, made: Made, pair: tuple[Path, Path]
) -> None:
    """The bundled pair is found by its bytes; a stranger only while it is in the library."""
    session = home.open_session()
    entry, _ = home.remember(session, made[1])
    assert entry is not None
    kept = home.recall(session, entry)
    assert [pick.path for pick in kept.here] == list(pair)
    (again,) = (
        item for item in home.merge(session, kept.merged.order) if isinstance(item, FinishedMerge)
    )
    assert again.kohya.read_bytes() == made[1].kohya.read_bytes()


def test_a_lora_that_has_gone_is_reported(
    home: Studio, made: Made, bad_files: dict[str, Path], pair: tuple[Path, Path]
) -> None:
    session = home.open_session()
    silent = home.add(session, bad_files["silent"], [])
    cat = home.add(session, pair[1], [silent])
    assert home.keep(session, silent) == ""
    order = MergeOrder(tuple(map(SelectedFile.of, (silent, cat))), method="sum")
    (merged,) = (item for item in home.merge(session, order) if isinstance(item, FinishedMerge))
    entry, _ = home.remember(session, merged)
    assert entry is not None
    assert len(home.recall(session, entry).here) == 2
    home.library(session).forget(silent.sha256)
    kept = home.recall(session, entry)
    assert [pick.name for pick in kept.here] == ["vxz-pizza"]
    words = "silent is no longer in your library: add its file again"
    with pytest.raises(MergeError, match=words):
        home.merge(session, kept.merged.order)
    with pytest.raises(MergeError, match=words):
        home.take(session, ExportOrder(kept.merged))


def test_differences_are_described_in_words(made: Made) -> None:
    _, merged, *_ = made
    one = merged.recipe
    assert differences(one, one) == []
    cat, pizza = one["sources"]  # type: ignore[misc]
    dog = {**pizza, "sha256": "0", "name": "dog"}
    other = {**one, "method": "iteris", "rank": 4, "rows": 64, "base": "sd15"}
    other["sources"] = [{**cat, "strength": 0.5, "prompts": []}, dog]
    assert differences(one, other) == [
        ("sks-cat: strength", "0.9", "0.5"),
        ("sks-cat: prompts of its own", "1 prompt", "none"),
        ("vxz-pizza", "at 1", "not in the merge"),
        ("dog", "not in the merge", "at 1"),
        ("Base model", "the embedded mini model", "Stable Diffusion 1.5"),
        ("Method", "Weighted sum", "IterIS"),
        ("Rank of the result", "exact", "4"),
        ("Positions of a picture", "all of them", "64"),
    ]


def test_pictures_that_were_drawn_alike_are_laid_side_by_side(studio: Studio, made: Made) -> None:
    session, merged, scene, pictures = made
    one = OpenedEntry(merged, scene, pictures)
    only = replace(scene, prompt="a vxz pizza", columns=("merged",), maps=False)
    again = tuple(item for item in studio.draw(session, only) if isinstance(item, Picture))
    ((origin, mine, theirs),) = side_by_side(one, OpenedEntry(merged, only, again))
    assert (origin.prompt, origin.seed) == ("a vxz pizza", 3)
    assert (mine, theirs) == (pictures[-1].path, again[0].path)
    assert side_by_side(one, OpenedEntry(merged)) == []
