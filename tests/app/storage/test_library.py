"""What was added before is found again by name, by trigger and by a scene."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.jobs.inspect import card
from app.schemas.card import Card
from app.schemas.thumbnail import thumbnail_of
from app.service import Studio
from app.settings.model import Settings
from app.storage.library import MAX_RESULTS, Library
from merging.errors import MergeError
from merging.retrieval.clip_reader import ClipReader, load_reader


@pytest.fixture
def cat(pair: tuple[Path, Path]) -> Card:
    return replace(card(pair[0], pair[0].name), captions=("sofa", "grass"))


@pytest.fixture
def pizza(pair: tuple[Path, Path]) -> Card:
    return card(pair[1], pair[1].name)


@pytest.fixture
def library(tmp_path: Path, cat: Card, pizza: Card) -> Library:
    found = Library(tmp_path / "library")
    found.keep(cat)
    found.keep(pizza)
    return found


def names(library: Library, text: str = "") -> list[str]:
    return [entry.name for entry in library.search(text)]


def test_files_lie_there_once_by_their_hash(library: Library, cat: Card, tmp_path: Path) -> None:
    library.keep(cat)
    files = sorted((tmp_path / "library").glob("*.safetensors"))
    assert len(files) == 2
    found = library.file(cat.sha256)
    path = found.path
    assert path in files and path.stem == cat.sha256
    assert found.name == "sks-cat.safetensors"
    assert path.read_bytes() == cat.path.read_bytes()


def test_where_a_file_is_from_is_known_in_an_older_index_too(
    library: Library, cat: Card, pizza: Card, tmp_path: Path
) -> None:
    """As written before there was an origin."""
    with sqlite3.connect(tmp_path / "library" / "index.sqlite") as index:
        index.execute("alter table loras drop column origin")
    library.keep(replace(cat, origin="me/pets/cat.safetensors@44"))
    assert library.file(cat.sha256).origin == "me/pets/cat.safetensors@44"
    assert library.file(pizza.sha256).origin == ""


def test_the_last_used_comes_first(library: Library, cat: Card) -> None:
    assert names(library) == ["vxz-pizza", "sks-cat"]
    library.keep(cat)
    assert names(library) == ["sks-cat", "vxz-pizza"]
    assert names(Library(Path("/nowhere/at/all"))) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("vxz-pizza", ["vxz-pizza"]),
        ("SKS", ["sks-cat"]),
        ("piz", ["vxz-pizza"]),
        ("a photo of a cat beside a pizza", ["vxz-pizza", "sks-cat"]),
        ("a cat on a sofa with a pizza", ["sks-cat", "vxz-pizza"]),
        ("a photo of the", []),
        ("'; drop table loras", []),
    ],
)
def test_a_name_a_trigger_or_a_scene_finds_them(
    library: Library, text: str, wanted: list[str]
) -> None:
    assert names(library, text) == wanted


def test_what_was_deleted_by_hand_is_passed_over_and_reported(library: Library, cat: Card) -> None:
    library.file(cat.sha256).path.unlink()
    assert names(library) == ["vxz-pizza"]
    with pytest.raises(MergeError, match="no longer in the library"):
        library.file(cat.sha256)


def test_forgetting_deletes_the_file_and_nothing_else(
    library: Library, cat: Card, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not the library's")
    library.forget("../other")
    library.forget(cat.sha256)
    assert names(library) == ["vxz-pizza"]
    assert len(list((tmp_path / "library").glob("*.safetensors"))) == 1
    assert other.exists()


def test_only_the_best_of_many_are_shown(library: Library, cat: Card) -> None:
    for number in range(MAX_RESULTS + 2):
        library.keep(replace(cat, sha256=f"{number:064d}", name=f"cat {number}"))
    assert len(library.search("cat")) == len(library.search()) == MAX_RESULTS


def test_a_damaged_index_is_reported(library: Library, tmp_path: Path) -> None:
    (tmp_path / "library" / "index.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(MergeError, match=r"index.sqlite cannot be read"):
        library.search()


def test_at_home_it_outlives_the_visit_and_in_public_it_ends_with_it(
    settings: Settings, cat: Card, tmp_path: Path
) -> None:
    at_home = Studio(replace(settings, work=tmp_path / "work", home=tmp_path / "home"))
    assert at_home.keep(at_home.open_session(), cat) == ""
    assert names(at_home.library(at_home.open_session())) == ["sks-cat"]
    public = Studio(replace(settings, work=tmp_path / "public", home=None))
    mine, other = public.open_session(), public.open_session()
    assert public.keep(mine, cat) == ""
    assert names(public.library(mine)) == ["sks-cat"]
    assert names(public.library(other)) == []


def test_a_library_that_cannot_be_written_is_reported(
    settings: Settings, cat: Card, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    studio = Studio(replace(settings, work=tmp_path / "work", home=tmp_path / "home"))
    said = studio.keep(studio.open_session(), cat)
    assert said.startswith("sks-cat is in use, but could not be stored in the library (")


def test_the_trigger_of_a_file_beside_it_is_remembered(library: Library, cat: Card) -> None:
    assert library.entry(cat.sha256).trigger == "sks cat"
    library.keep(replace(cat, trigger="of its sidecar"))
    assert library.entry(cat.sha256).trigger == "of its sidecar"


# --- suggestions for a prompt ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> ClipReader:
    return load_reader()


def looks(folder: Path) -> dict[str, bytes]:
    """What is kept of CLIP's vectors."""
    with sqlite3.connect(folder / "library" / "index.sqlite") as index:
        return dict(index.execute("select sha256, data from looks").fetchall())


def test_a_prompt_suggests_what_fits_it(library: Library, reader: ClipReader, cat: Card) -> None:
    found = library.suggest("a photo of a vxz pizza beside a cat", lambda: reader)
    assert [(one.entry.name, one.named) for one in found] == [
        ("vxz-pizza", True),
        ("sks-cat", False),
    ]
    assert found[0].score == 1.0 > found[1].score > 0.8
    assert found[1].title.endswith(f"· fits {found[1].score:.0%}")
    assert not library.suggest("a house", lambda: reader)
    assert not library.suggest("a cat", lambda: reader, without={cat.sha256})
    assert not library.suggest("a cat", lambda: reader, base="sd15")


def test_clip_s_vectors_are_kept_until_the_file_is_described_anew(
    library: Library, reader: ClipReader, cat: Card, pizza: Card, tmp_path: Path
) -> None:
    (before,) = library.suggest("a cat", lambda: reader)
    kept = looks(tmp_path)
    assert kept.keys() == {cat.sha256, pizza.sha256}
    assert library.suggest("a cat", lambda: reader) == [before]
    library.keep(replace(cat, trigger="qfj dog"))
    assert looks(tmp_path).keys() == {pizza.sha256}
    (after,) = library.suggest("a dog beside a house", lambda: reader)
    assert after.entry.name == "sks-cat"
    assert looks(tmp_path)[cat.sha256] != kept[cat.sha256]
    library.forget(cat.sha256)
    assert looks(tmp_path).keys() == {pizza.sha256}


def test_an_older_index_gains_suggestions(
    library: Library, reader: ClipReader, tmp_path: Path
) -> None:
    """As written before there were previews and vectors."""
    with sqlite3.connect(tmp_path / "library" / "index.sqlite") as index:
        index.execute("alter table loras drop column thumbnail")
        index.execute("drop table looks")
    (found,) = library.suggest("a pizza", lambda: reader)
    assert found.entry.name == "vxz-pizza"


def test_a_preview_is_remembered(library: Library, cat: Card) -> None:
    picture = thumbnail_of(Image.new("RGB", (200, 100), "red"))
    library.keep(replace(cat, thumbnail=picture))
    library.keep(replace(cat, thumbnail=""))  # the file alone, added once more
    assert library.thumbnail(cat.sha256) == picture
    assert library.thumbnail("unknown") == ""


def test_an_empty_library_loads_no_clip(tmp_path: Path) -> None:
    def refused() -> ClipReader:
        raise AssertionError("loaded")

    assert Library(tmp_path / "nothing").suggest("a cat", refused) == []


@pytest.mark.slow
def test_a_library_of_500_answers(reader: ClipReader, cat: Card, tmp_path: Path) -> None:
    library, small = Library(tmp_path / "library"), tmp_path / "small.safetensors"
    small.write_bytes(b"the file is not read")
    names = list(reader.rivals)
    for number in range(500):
        name, sha256 = f"{names[number % 40]} {number}", f"{number:064d}"
        library.keep(replace(cat, path=small, sha256=sha256, name=name, trigger=f"w{number}"))
    found = library.suggest("a photo of a w123 on a gift", lambda: reader)
    assert found[0].entry.trigger == "w123" and found[0].named
    assert {one.entry.name.split()[0] for one in found[1:]} == {"gift"}
    assert len(found) == MAX_RESULTS
