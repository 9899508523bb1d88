"""owner/repo[/file][@revision] in place of a local path; a folder stands in for the Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merging.errors import MergeError
from merging.io import hub
from merging.io.hub import MAX_DOWNLOAD
from tests.conftest import COMMIT, ROOT, SHELF, Sizes
from tests.merging.cli.commands import done, refused

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


@pytest.mark.parametrize(
    ("text", "file", "revision", "name"),
    [
        ("me/pets", hub.DIFFUSERS_NAME, None, "pets.safetensors"),
        ("me/pets@v1.2", hub.DIFFUSERS_NAME, "v1.2", "pets.safetensors"),
        ("me/pets/old/cat.safetensors@main", "old/cat.safetensors", "main", "cat.safetensors"),
    ],
)
def test_a_download_records_its_commit(
    online: Callable[[Sizes], list[Any]], text: str, file: str, revision: str | None, name: str
) -> None:
    requests = online({hub.DIFFUSERS_NAME: 9, "old/cat.safetensors": 9, "README.md": 9})
    found = hub.resolve_file(Path(text))
    assert requests == [("me/pets", revision), ("me/pets", file, COMMIT)]
    assert (found.name, found.origin) == (name, f"me/pets/{file}@{COMMIT}")
    assert found.path.read_bytes() == CAT.read_bytes()


@pytest.mark.parametrize(
    ("address", "file", "revision"),
    [
        ("https://huggingface.co/me/pets", "a b/cat.safetensors", None),
        ("https://huggingface.co/me/pets/tree/v1", "a b/cat.safetensors", "v1"),
        (" http://huggingface.co/me/pets/blob/main/x.safetensors?a=b ", "x.safetensors", "main"),
        ("https://www.huggingface.co/me/pets/resolve/v1/x.safetensors", "x.safetensors", "v1"),
    ],
)
def test_the_address_of_a_page_names_a_file(
    online: Callable[[Sizes], list[Any]], address: str, file: str, revision: str | None
) -> None:
    requests = online({file: 9})
    assert hub.fetch_file(address).origin == f"me/pets/{file}@{COMMIT}"
    assert requests[0] == ("me/pets", revision)


def test_a_visitor_downloads_anonymously_and_gets_no_local_file(
    online: Callable[[Sizes], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = online({"cat.safetensors": 9 << 20})
    found = hub.fetch_file("me/pets", cache=tmp_path / "visit", token=False)
    assert found.path.is_relative_to(tmp_path / "visit")
    assert [call[-1] for call in requests] == ["as anybody"] * 2
    with pytest.raises(MergeError, match=r"has 9 MiB, more than .* \(8 MiB\)"):
        hub.fetch_file("me/pets", max_bytes=8 << 20)
    monkeypatch.chdir(CAT.parents[2])
    requests.clear()
    local = CAT.relative_to(Path.cwd()).as_posix()  # a file here, and a place there
    assert hub.resolve_file(Path(local)).path == Path(local)
    with pytest.raises(MergeError, match="has no file"):
        hub.fetch_file(local)
    assert requests


@pytest.mark.parametrize(
    "text",
    ["", "cat", "/etc/passwd", "../x/y", "me/pets/../../x", "https://evil.org/me/pets", "a/b c",
     "me/pets\0", "me\n/pets", "mé/pets", "me/\u202epets", "me/pets\ud83d", "me/pets@", "@main",
     "me/pets@../../x", "me/pets@a b", "me/pets@v1\r\nHost: x", "me/pets?x=1", "me/pets#x", "file:///etc/passwd",
     "https://huggingface.co@evil.org/me/pets", "https://huggingface.co.evil.org/me/pets",
     "me/pets/../x.safetensors", "me/pets/./x.safetensors", "me/pets/a\nb.safetensors",
     "me/pets@" + "a" * 101,
     "-me/pets", "me/.pets", "me/..", "x" * 500 + "/pets", "me/" + "x" * 50_000],
    ids=ascii,
)  # fmt: skip
def test_text_without_a_hub_file_is_refused(
    online: Callable[[Sizes], list[Any]], text: str
) -> None:
    requests = online({"a.safetensors": 9})
    with pytest.raises(MergeError, match="is no place on the Hub; type owner/name"):
        hub.fetch_file(text)
    assert not requests


def test_the_config_of_peft_is_downloaded_too(online: Callable[[Sizes], list[Any]]) -> None:
    requests = online({"a/adapter_model.safetensors": 9, "a/adapter_config.json": 9})
    hub.resolve_file(Path("me/pets"))
    assert ("me/pets", "a/adapter_config.json", COMMIT) in requests


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        ("me/pets", {"a.safetensors": 9, "b.safetensors": 9}, "name one of a.safetensors, b.s"),
        ("me/pets", {"a.bin": 9}, "other formats are not supported"),
        ("me/pets/c.safetensors", {"a.safetensors": 9}, "has no file c.safetensors; name one of a"),
        ("me/pets", {"a.safetensors": MAX_DOWNLOAD + 1}, "is it a checkpoint"),
    ],
)
def test_files_that_are_not_downloaded(
    online: Callable[[Sizes], list[Any]], text: str, sizes: Sizes, message: str
) -> None:
    requests = online(sizes)
    with pytest.raises(MergeError, match=message):
        hub.resolve_file(Path(text))
    assert len(requests) == 1, "nothing is downloaded"


@pytest.mark.parametrize("text", ["none.safetensors", "loras/none.safetensors", "/a/b", "assets/x"])
def test_local_files_are_not_searched_on_the_hub(
    online: Callable[[Sizes], list[Any]], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(ROOT)
    requests = online({"a.safetensors": 9})
    assert hub.resolve_file(Path(text)) == hub.NamedFile(Path(text), Path(text).name)
    assert not requests


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "me/pets"],
        ["convert", "me/pets", "OUT"],
        ["merge", "me/pets@0.8", "--method", "sum", "--out", "OUT"],
        ["replay", "me/pets", "me/others", "--out", "OUT"],
        ["ranks", "me/pets"],
        ["conflicts", "me/pets", "me/others"],
        ["render", "--base", "mini", "--adapter", "me/pets", "--prompt", "a cat", "--out", "OUT"],
    ],
)
def test_without_a_network_the_error_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    out = tmp_path / "out.safetensors"
    sentence = refused(capsys, *[out if argument == "OUT" else argument for argument in arguments])
    assert sentence.startswith("me/pets is no local file, and the Hub could not be asked for it")
    assert "check the name and the network" in sentence
    assert not out.exists()


def test_the_recipe_has_the_commit_and_is_replayed(
    online: Callable[[Sizes], list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    online({"cat.safetensors": 9})
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    done(capsys, "merge", "me/pets@main@0.8", PIZZA, "--method", "sum", "--out", first)
    (entry,) = done(capsys, "inspect", first)["files"]
    cat, pizza = entry["recipe"]["sources"]
    assert (cat["origin"], cat["strength"]) == (f"me/pets/cat.safetensors@{COMMIT}", 0.8)
    assert "origin" not in pizza
    assert done(capsys, "replay", first, CAT, PIZZA, "--out", again)["same"]
    message = refused(capsys, "replay", first, PIZZA, "--out", again)
    assert f"it came from me/pets/cat.safetensors@{COMMIT}." in message
