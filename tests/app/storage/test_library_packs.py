"""Files of the library in one pack: what stays, what is lost, and what says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.schemas.card import Card
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.storage.library import Library
from merging import formats
from merging.adapter import VectorDelta
from merging.errors import MergeError
from merging.formats.embeddings import token_width
from merging.io.files import file_sha256
from merging.packs.pack_file import is_pack
from tests.app.storage.packed_library import NAMES, files, loras, offered, pack_of, relative_error
from tests.merging.cli.commands import done


def test_a_pack_takes_the_place_of_its_files(
    filled: tuple[Studio, str],
    cards: list[Card],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each LoRA stays an entry; the bytes of the pack are there once, for the command, too."""
    studio, session = filled
    before = studio.room.total
    offer = offered(studio, session)
    assert [member.name for member in offer.members] == NAMES
    assert offer.before == sum(one.path.stat().st_size for one in cards)
    assert len(files(studio)) == 2, "nothing is replaced before it is accepted"
    studio.library(session).pack(offer)
    assert studio.room.total == before + offer.bytes, "the pack counts once"
    (pack,) = files(studio)
    assert is_pack(pack) and pack.stat().st_size == offer.bytes < offer.before / 3
    found = studio.library(session).search()
    assert [(entry.name, entry.captions) for entry in found] == [
        (name, ("sofa",)) for name in reversed(NAMES)
    ]
    assert found[0].title == f"vxz-pizza · vxz pizza · mini · packed, error {found[0].error:.1%}"
    for name, adapter in loras(studio, session).items():
        before = formats.read(cards[NAMES.index(name)].path)
        error = offer.members[NAMES.index(name)].error
        assert relative_error(adapter, before) == pytest.approx(error, rel=0.02)
        assert (adapter.trigger, adapter.base) == (before.trigger, before.base)
        out = tmp_path / f"{name}.safetensors"
        done(capsys, "unpack", pack, "--name", name, "--out", out)
        assert file_sha256(out) == offer.members[NAMES.index(name)].unpacked


def test_a_packed_lora_is_used_unpacked_and_forgotten(filled: tuple[Studio, str]) -> None:
    studio, session = filled
    library = studio.library(session)
    library.pack(offered(studio, session))
    (pack,) = files(studio)
    pizza, cat = library.search()
    file = studio.lora(session, cat.sha256)
    assert file.name == "sks-cat.safetensors" and file_sha256(file.path) == cat.sha256
    assert studio.keep(session, studio.add(session, file.path, [], file.name)) == ""
    assert files(studio) == [pack], "it stays in the pack"
    assert [entry.name for entry in library.search()] == NAMES, "and is the last that was used"
    studio.take_out(session, cat.sha256)
    assert set(files(studio)) == {pack, pack.with_name(f"{cat.sha256}.safetensors")}
    entry = library.entry(cat.sha256)
    assert not entry.pack and "MB" in entry.title
    with pytest.raises(MergeError, match="in no pack"):
        studio.take_out(session, cat.sha256)
    library.forget(pizza.sha256)
    assert [path.stem for path in files(studio)] == [cat.sha256], "the pack went with its last"


def test_what_is_packed_twice_loses_no_entry(filled: tuple[Studio, str], cards: list[Card]) -> None:
    """The same files come again, and are packed again as the same pack."""
    studio, session = filled
    library = studio.library(session)
    library.pack(offered(studio, session))
    with pytest.raises(MergeError, match="is in a pack already"):
        offered(studio, session)
    for one in cards:
        studio.keep(session, one)
    assert len(library.search()) == 4
    library.pack(pack_of(studio, session, [one.sha256 for one in cards]))
    assert [entry.name for entry in library.search()] == list(reversed(NAMES))
    assert len(files(studio)) == 1
    assert len(loras(studio, session)) == 2


def test_it_is_searched_and_suggested_as_before(
    filled: tuple[Studio, str], cards: list[Card]
) -> None:
    studio, session = filled
    library = studio.library(session)
    before = library.suggest("a cat on a sofa", studio.clip_reader)
    library.pack(offered(studio, session))
    after = library.suggest("a cat on a sofa", studio.clip_reader)
    assert [(one.entry.name, one.score) for one in after] == [
        (one.entry.name, one.score) for one in before
    ]
    assert [entry.name for entry in library.search("vxz")] == ["vxz-pizza"]
    here = {cards[0].sha256}  # a row of the page, added before it was packed
    left = library.suggest("a cat on a sofa", studio.clip_reader, without=here)
    assert "sks-cat" not in [one.entry.name for one in left]


def test_an_old_merge_of_a_packed_lora_says_so(
    filled: tuple[Studio, str], cards: list[Card]
) -> None:
    studio, session = filled
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    entry, _ = studio.remember(session, _merged(studio, session, order))
    assert studio.recall(session, entry or 0).notes == ()
    studio.library(session).pack(offered(studio, session))
    opened = studio.recall(session, entry or 0)
    assert [pick.name for pick in opened.here] == NAMES
    assert [note.split(" was packed")[0] for note in opened.notes] == NAMES
    assert "merged again, it gives other bytes" in opened.notes[0]
    packed = _merged(studio, session, opened.merged.order)
    assert packed.kohya.read_bytes() != opened.merged.kohya.read_bytes()
    newer, _ = studio.remember(session, packed)
    assert studio.recall(session, newer or 0).notes == (), "that one was made of the pack"
    for one in studio.library(session).search():
        studio.take_out(session, one.sha256)
    assert len(studio.recall(session, entry or 0).notes) == 2, "taken out, it is no more exact"
    for one in cards:
        studio.keep(session, one)
    again = studio.recall(session, entry or 0)
    assert again.notes == ()
    same = _merged(studio, session, again.merged.order).kohya
    assert same.read_bytes() == opened.merged.kohya.read_bytes()


def _merged(studio: Studio, session: str, order: MergeOrder) -> FinishedMerge:
    (merged,) = (one for one in studio.merge(session, order) if isinstance(one, FinishedMerge))
    return merged


def test_another_machine_s_rounding_is_the_same_lora(
    filled: tuple[Studio, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written from the pack may differ in a bit: it is no new file of the library."""
    studio, session = filled
    library = studio.library(session)
    library.pack(offered(studio, session))
    cat = library.search("sks")[0]
    written = studio._unpack

    def rounded(*place: object) -> Path:
        path: Path = written(*place)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        return path

    monkeypatch.setattr(studio, "_unpack", rounded)
    file = studio.lora(session, cat.sha256)
    assert studio.keep(session, studio.add(session, file.path, [], file.name)) == ""
    assert len(library.search()) == 2 and len(files(studio)) == 1
    assert library.entry(file_sha256(file.path)).sha256 == cat.sha256


def test_what_a_pack_cannot_give_back_is_refused(
    filled: tuple[Studio, str], tmp_path: Path
) -> None:
    studio, session = filled
    library = studio.library(session)
    cat = library.search()[1]
    with pytest.raises(MergeError, match="A pack holds several LoRAs"):
        pack_of(studio, session, [cat.sha256])
    adapter = formats.read(library.file(cat.sha256).path)
    vector, length = next(iter(formats.table("mini").vectors.items()))
    shift = VectorDelta(bias=torch.ones(length))
    shifted = replace(adapter, shifts={vector.rpartition(".")[0]: shift})
    formats.WRITERS["full"](shifted, tmp_path / "shifted.safetensors", torch.float16, {})
    tokens = torch.randn(2, token_width(formats.table("mini")))
    save_file({"emb_params": tokens}, tmp_path / "word.safetensors")
    for name, words in (
        ("shifted", "shifted stays a file of its own: it has biases or normalisations inside"),
        ("word", "word.safetensors"),
    ):
        fresh = studio.add(session, tmp_path / f"{name}.safetensors", [])
        assert studio.keep(session, fresh) == ""
        with pytest.raises(MergeError, match=words):
            pack_of(studio, session, [cat.sha256, fresh.sha256])
    assert len(files(studio)) == 4


def test_twins_are_refused(filled: tuple[Studio, str], tmp_path: Path) -> None:
    """Their names can be no files' names, so that what a pack gives back would be one file."""
    studio, session = filled
    adapter, path = formats.read(files(studio)[0]), tmp_path / "twin.safetensors"
    twins = list[Card]()
    for name in ("twin!", "twin?"):
        fields = {**adapter.metadata, "ss_output_name": name}
        formats.write_kohya(adapter, path, torch.float32, fields)
        twins.append(studio.add(session, path, [], f"{name}.safetensors"))
        assert studio.keep(session, twins[-1]) == ""
    with pytest.raises(MergeError, match=r"twin! and twin\? are the same LoRA: delete one"):
        pack_of(studio, session, [twin.sha256 for twin in twins])


def test_what_changed_meanwhile_is_not_replaced(filled: tuple[Studio, str]) -> None:
    """Another app on the same home has deleted one of them, or packed them."""
    studio, session = filled
    offer = offered(studio, session)
    other = Library((studio.settings.home or Path()) / "library")
    other.forget(offer.members[0].sha256)
    with pytest.raises(MergeError, match="sks-cat is no longer in the library as it was"):
        studio.library(session).pack(offer)
    assert [path.stem for path in files(studio)] == [offer.members[1].sha256]
