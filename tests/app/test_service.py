"""The service over the real engine: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from app.jobs.queue import Step
from app.schemas.card import misfit
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.ui.html import fragments as markup
from merging import formats
from merging.bundled import LORAS, shelf_pairs
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import merge
from merging.errors import Cancelled, MergeError
from merging.export.save import RecipeBase, save
from merging.io.files import RECIPE_KEY
from merging.request import MergeRequest, Source
from tests.app.visits import QUICK, added, finished


@pytest.fixture(scope="module")
def merged(studio: Studio, pair: tuple[Path, Path]) -> tuple[str, FinishedMerge]:
    """A visit with a merge of the bundled pair at uneven strengths."""
    session, cards = added(studio, pair)
    cat, pizza = map(SelectedFile.of, cards)
    picks = (replace(cat, strength=0.9), replace(pizza, strength=1.1))
    return session, finished(studio, session, MergeOrder(picks, **QUICK))


def test_a_card_describes_its_file(studio: Studio, pair: tuple[Path, Path]) -> None:
    _, (cat, pizza) = added(studio, pair)
    adapter = formats.read(pair[0])
    assert (cat.name, cat.base, cat.trigger) == ("sks-cat", "mini", "sks cat")
    assert (cat.family, cat.sha256) == (adapter.family, adapter.sha256)
    assert sum(cat.layers.values()) == len(adapter.layers)
    assert cat.layers["text_encoder"] > 0
    assert list(cat.ranks) == [8]
    assert pizza.family != cat.family, "the pair comes in two families of files"


@pytest.mark.slow
def test_the_file_is_the_librarys_own(
    base: Base, pair: tuple[Path, Path], merged: tuple[str, FinishedMerge], tmp_path: Path
) -> None:
    """The app adds nothing and loses nothing: byte for byte what the library would write."""
    sources = tuple(
        Source(adapter, strength, adapter.trigger)
        for adapter, strength in zip(map(formats.read, pair), (0.9, 1.1), strict=True)
    )
    request = MergeRequest(sources, **QUICK)
    result = merge(request, activations(base))
    _, found = merged
    for form, path in (("kohya", found.kohya), ("diffusers", found.diffusers)):
        save(result, tmp_path / path.name, form, merged_on=RecipeBase("mini", base.fingerprint))
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.slow
def test_the_result_explains_itself(merged: tuple[str, FinishedMerge]) -> None:
    _, found = merged
    assert found.kohya.name == "iteris_sks-cat+vxz-pizza.safetensors"
    assert found.trigger == "sks cat, vxz pizza"
    assert found.layers == len(formats.read(found.kohya).layers)
    assert found.recipe == json.loads(formats.read(found.kohya).metadata[RECIPE_KEY])
    assert len(found.report["layers"]) == found.layers  # type: ignore[arg-type]
    for check, programs in zip(found.checks, ("A1111, Forge", "diffusers"), strict=True):
        assert f"read back: {found.layers} modules, largest error " in check
        assert f"; keys fit {programs}" in check
        assert check in markup.summary(found)


@pytest.mark.slow
def test_weight_space_methods_need_no_trigger(
    studio: Studio, pair: tuple[Path, Path], bad_files: dict[str, Path]
) -> None:
    session, cards = added(studio, [bad_files["silent"], pair[1]])
    assert cards[0].trigger == ""
    picks = tuple(map(SelectedFile.of, cards))
    assert finished(studio, session, MergeOrder(picks, method="sum")).method == "Weighted sum"
    with pytest.raises(MergeError, match="silent: no trigger"):
        finished(studio, session, MergeOrder(picks, **QUICK))
    with_trigger = (replace(picks[0], trigger="sks cat"), picks[1])
    assert finished(studio, session, MergeOrder(with_trigger, **QUICK)).method == "IterIS"


@pytest.mark.parametrize(
    ("kind", "words"), [("text", "not a safetensors"), ("cut", "cut short"), ("sdxl", "SDXL")]
)
def test_bad_files_are_refused_by_name(
    studio: Studio, bad_files: dict[str, Path], kind: str, words: str
) -> None:
    session = studio.open_session()
    with pytest.raises(MergeError, match=words) as refused:
        studio.add(session, bad_files[kind], [])
    assert str(refused.value).startswith(f"{kind}.safetensors")
    assert str(bad_files[kind].parent) not in str(refused.value)
    left = [path for path in studio.store.folder(session).rglob("*") if path.is_file()]
    assert left == [], "nothing of a refused file stays on the disk"


def test_the_same_file_twice_is_refused(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    session, cards = added(studio, pair)
    twin = tmp_path / "twin.safetensors"
    twin.write_bytes(pair[0].read_bytes())
    with pytest.raises(MergeError, match="twin: the same file is on the list already, as sks-cat"):
        studio.add(session, twin, cards)


def test_too_many_files_are_refused(studio: Studio) -> None:
    files = [LORAS / entry.file for two in shelf_pairs().values() for entry in two]
    session, cards = added(studio, files[: studio.settings.max_files])
    with pytest.raises(MergeError, match="at most 4"):
        studio.add(session, files[-1], cards)


def test_large_files_are_refused(settings: Settings, pair: tuple[Path, Path]) -> None:
    small = Studio(replace(settings, max_mb=0))
    with pytest.raises(MergeError, match="larger than 0 MB"):
        small.add(small.open_session(), pair[0], [])


def test_a_file_for_another_base_is_reported_at_once_and_refused(
    studio: Studio, pair: tuple[Path, Path], bad_files: dict[str, Path]
) -> None:
    session, cards = added(studio, [bad_files["sd15"], pair[0]])
    assert "Stable Diffusion 1.5" in misfit(cards[0].name, cards[0].base, "mini")
    assert misfit(cards[1].name, cards[1].base, "mini") == ""
    with pytest.raises(MergeError, match=r"sd15: made for Stable Diffusion 1\.5"):
        finished(studio, session, MergeOrder(tuple(map(SelectedFile.of, cards))))


def orders(pick: SelectedFile) -> list[tuple[MergeOrder, str]]:
    """Merges that must be refused before any work, and the words that say so."""
    two = (pick, pick)
    return [
        (MergeOrder(()), "there is none yet"),
        (MergeOrder((pick,)), "there is only one"),
        (MergeOrder(two * 3), "at most 4"),
        (MergeOrder(two, dtype="int8"), "int8"),
        (MergeOrder(two, prompts="x\n" * 65), "65"),
        (MergeOrder(two, prompts="x" * 201), "201"),
        (MergeOrder(two, base=" "), "Name the base"),
        (MergeOrder((pick, replace(pick, prompts=("x",) * 65))), "65"),
    ]


@pytest.mark.parametrize("place", range(8))
def test_impossible_merges_are_refused(studio: Studio, pair: tuple[Path, Path], place: int) -> None:
    session, (cat,) = added(studio, pair[:1])
    order, words = orders(SelectedFile.of(cat))[place]
    with pytest.raises(MergeError, match=words):
        studio.merge(session, order)


@pytest.mark.parametrize(
    ("prompt", "words"), [(" ", "Type a prompt"), ("x" * 501, "501"), ("a " * 249, "shorten it")]
)
def test_impossible_prompts_are_refused(studio: Studio, prompt: str, words: str) -> None:
    session = studio.open_session()
    with pytest.raises(MergeError, match=words):
        list(studio.draw(session, DrawOrder((), prompt, steps=1)))


def test_a_public_app_takes_no_base_from_visitors(settings: Settings) -> None:
    public = Studio(replace(settings, free_base=False))
    with pytest.raises(MergeError, match="not offered"):
        public.draw(public.open_session(), DrawOrder((), "a cat", base="/etc"))


def test_no_network_is_reported_in_one_sentence(studio: Studio) -> None:
    """HF_HUB_OFFLINE is set for all tests: the Hub is out of reach, as on a train."""
    session = studio.open_session()
    with pytest.raises(MergeError, match="network") as refused:
        list(studio.draw(session, DrawOrder((), "a cat", base="sd15", steps=1)))
    assert "\n" not in str(refused.value)
    order = DrawOrder((), "a cat", steps=1, columns=("base",))
    drawn = [item for item in studio.draw(session, order) if isinstance(item, Picture)]
    assert len(drawn) == 1, "and the app goes on working"


def test_an_expired_session_is_reported(studio: Studio, pair: tuple[Path, Path]) -> None:
    _, cards = added(studio, pair)
    order = MergeOrder(tuple(map(SelectedFile.of, cards)))
    with pytest.raises(MergeError, match="expired"):
        studio.merge("gone", order)


@pytest.mark.slow
def test_a_stopped_merge_leaves_the_next_one_the_same(
    studio: Studio, pair: tuple[Path, Path], merged: tuple[str, FinishedMerge]
) -> None:
    """Nothing of a stopped job stays in the shared model."""
    session, cards = added(studio, pair)
    picks = tuple(
        replace(pick, path=card.path)
        for pick, card in zip(merged[1].order.picks, cards, strict=True)
    )
    with pytest.raises(Cancelled):
        for item in studio.merge(session, MergeOrder(picks, samples=16)):
            if isinstance(item, Step) and item.share > 0:
                studio.stop(session)
    again = finished(studio, session, MergeOrder(picks, **QUICK))
    assert again.kohya.read_bytes() == merged[1].kohya.read_bytes()


def test_visitors_of_a_public_app_have_a_few_places(settings: Settings) -> None:
    """A client's visits share its places in the line; other clients have theirs."""
    public = Studio(replace(settings, public=True, max_client_jobs=1, home=None, free_base=False))
    order = DrawOrder((), "a cat", steps=1)
    first = public.draw(public.open_session("one"), order)
    next(first)
    with pytest.raises(MergeError, match="from your address"):
        next(public.draw(public.open_session("one"), order))
    other = public.draw(public.open_session("other"), order)
    assert "Waiting" in cast(Step, next(other)).text
    for job in (other, first):
        job.close()


def test_a_stopped_job_leaves_no_files(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = added(studio, pair)
    before = files(studio.store.folder(session))
    job = studio.merge(session, MergeOrder(tuple(map(SelectedFile.of, cards)), **QUICK))
    next(job)
    job.close()
    assert files(studio.store.folder(session)) == before


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
