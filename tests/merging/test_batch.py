"""The command ``batch``: a matrix of merges in one zip, each what ``merge`` would have made."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from merging import formats
from merging.__main__ import main
from merging.batch import SUMMARY, BatchMerge, OutputFormat, batch, plan_batch
from merging.errors import Cancelled, MergeError
from merging.io.zip_archive import archive
from merging.request import MergeRequest, Source
from merging.runtime.progress import silent
from tests.conftest import SHELF
from tests.merging.cli.commands import done

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
FOLDER = "batch_sks-cat+vxz-pizza"


@pytest.fixture(scope="module")
def pair() -> MergeRequest:
    return MergeRequest(tuple(Source(formats.read(file)) for file in (CAT, PIZZA)))


def summary(path: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as bundle:
        text = bundle.read(f"{FOLDER}/{SUMMARY}").decode()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.slow
def test_every_method_with_every_strength(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files, recipes and numbers; the same request gives the same bytes."""
    ask = ("batch", CAT, f"{PIZZA}@0.9:te=0.45", "--methods", "average", "sum", "--rank", 4,
           "--strengths", "0.5,1", "0.8", "--out")  # fmt: skip
    out, again = (tmp_path / name for name in ("a.zip", "b.zip"))
    said = done(capsys, *ask, out)
    done(capsys, *ask, again)
    assert out.read_bytes() == again.read_bytes()
    stems = [
        f"{place:02d}_{method}_sks-cat_{strength}+vxz-pizza_0.8"
        for place, (method, strength) in enumerate(
            [("average", "0.5"), ("average", "1"), ("sum", "0.5"), ("sum", "1")], start=1
        )
    ]
    with zipfile.ZipFile(out) as bundle:
        names = [f"{FOLDER}/{stem}{end}" for stem in stems for end in (".json", ".safetensors")]
        assert bundle.namelist() == [*names, f"{FOLDER}/{SUMMARY}"]
        adapter = bundle.read(f"{FOLDER}/{stems[3]}.safetensors")
        saved = json.loads(bundle.read(f"{FOLDER}/{stems[3]}.json"))
    assert saved["sources"][1]["text_encoder"] == 0.5, "parts keep their proportion"
    one = tmp_path / f"{stems[3]}.safetensors"
    like = ("--method", "sum", "--rank", 4, "--out", one)
    done(capsys, "merge", CAT, f"{PIZZA}@0.8:te=0.4", *like)
    assert adapter == one.read_bytes()

    rows = summary(out)
    assert [row["merge"] for row in rows] == stems
    assert [row["strength of sks-cat"] for row in rows] == ["0.5", "1", "0.5", "1"]
    assert {row["error left"] for row in rows} == {""}, "they read no prompts"
    assert all(0 < float(row["kept energy"]) < 1 for row in rows)
    assert [each["sha256"] for each in said["merges"]] == [row["SHA-256"] for row in rows]


def test_a_recipe_s_merge_is_varied_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged, recipe, out = (tmp_path / name for name in ("m.safetensors", "r.json", "o.zip"))
    done(capsys, "merge", CAT, PIZZA, "--method", "average", "--rank", 4, "--out", merged)
    found = done(capsys, "inspect", merged)["files"][0]["recipe"]
    recipe.write_text(json.dumps(found), "utf-8")
    ask = ("batch", PIZZA, CAT, "--recipe", recipe, "--strengths=-0.5", "--strengths", "1")
    done(capsys, *ask, "--out", out)
    (row,) = summary(out)
    assert (row["merge"], row["largest rank"]) == ("01_average_sks-cat_-0.5+vxz-pizza_1", "4")


def test_what_cannot_be_made_is_in_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.zip"
    ask = ("batch", CAT, PIZZA, "--methods", "sum", "--out", out)
    assert main([*map(str, ask), "--strengths", "0,1", "0"]) == 0
    assert "01_sum_sks-cat_0+vxz-pizza_0 failed: The merge" in capsys.readouterr().out
    none, one = summary(out)
    assert none["problem"].startswith("not made: The merge changes nothing")
    assert (none["bytes"], one["problem"]) == ("", "")
    out.unlink()
    assert main([*map(str, ask), "--strengths", "0", "0"]) == 2
    assert "error: The merge changes nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ends", ["\r", "\n", "\r\n", "\u2028", " "])
def test_no_name_becomes_a_formula_of_a_spreadsheet(
    pair: MergeRequest, tmp_path: Path, ends: str
) -> None:
    """Nor the second line of one, which a spreadsheet takes for a row of its own."""
    first, second = pair.sources
    names = (f"mug{ends}=1+1", f"{ends}=1+1")
    sources = tuple(
        replace(source, adapter=replace(source.adapter, name=name, trigger=""))
        for source, name in zip((first, second), names, strict=True)
    )
    request = replace(pair, sources=sources, method="sum")
    out = tmp_path / "o.zip"
    batch(plan_batch(request, ["sum"]), out, None, OutputFormat(), silent)
    with zipfile.ZipFile(out) as bundle:
        (name,) = (name for name in bundle.namelist() if name.endswith(SUMMARY))
        lines = bundle.read(name).decode().splitlines()
    assert len(lines) == 2
    cells = [cell for line in csv.reader(lines) for cell in line]
    assert not [cell for cell in cells if cell.lstrip(" ").startswith("=")]


@pytest.mark.parametrize(
    ("methods", "strengths", "words"),
    [
        (["sum"], [(1.0,)], "1 lists of strengths for 2 LoRAs; give one list per LoRA"),
        (["sum"], [tuple(range(1, 10)), tuple(range(1, 40))], "1 to 256 merges, not 351"),
        ([], [], "1 to 256 merges, not 0"),
        (["sum"], [(1.0,), (11.0,)], "strength 11 is outside"),
        (["nothing"], [], "No method is called 'nothing'"),
    ],
)
def test_impossible_batches_are_refused(
    pair: MergeRequest, methods: list[str], strengths: list[tuple[float, ...]], words: str
) -> None:
    with pytest.raises(MergeError, match=words):
        plan_batch(pair, methods, strengths)


def test_what_is_named_twice_is_made_once(pair: MergeRequest) -> None:
    found = plan_batch(pair, ["sum", "average", "sum"], [(0.5, 1.0, 0.5), ()])
    assert len({cell.stem for cell in found}) == len(found) == 4


def made(listed: tuple[BatchMerge, ...], out: Path, stopped: bool = False) -> None:
    batch(listed, out, None, OutputFormat(), silent, lambda: stopped)


def test_a_full_disk_or_a_stop_leaves_nothing(
    pair: MergeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = plan_batch(replace(pair, rank=1), ["sum"])
    with pytest.raises(Cancelled):
        made(listed, tmp_path / "o.zip", stopped=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(MergeError, match=r"^o\.zip cannot be written \(No space left on device\)"):
        made(listed, tmp_path / "o.zip")
    assert not list(tmp_path.iterdir())


def test_an_archive_is_the_same_whenever_and_however_it_is_filled(tmp_path: Path) -> None:
    file, both = tmp_path / "file", []
    for name in ("one", "two"):
        file.write_bytes(name.encode() * 1000)
        with archive(tmp_path / name) as bundle:
            bundle.add("a/inner", b"one" * 1000 if name == "two" else file)
        both.append((tmp_path / name).read_bytes())
    assert both[0] == both[1]
