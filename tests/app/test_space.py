"""A checkout as a Hugging Face Space: what is uploaded for both kinds, and that it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, SpaceHardware

from app.space import FOLDERS, HARDWARE, main, write_space
from tests.conftest import ROOT

KINDS = ("gradio", "docker")
TOKEN = "hf_" + "a" * 34


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of both kinds."""
    folders = {sdk: tmp_path_factory.mktemp(sdk) for sdk in KINDS}
    write_space("gradio", folders["gradio"])
    write_space("docker", folders["docker"])
    return folders


def settings(folder: Path) -> dict[str, object]:
    """Those of a Space, at the top of its README."""
    _, head, _ = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return dict(yaml.safe_load(head))


@pytest.mark.parametrize("sdk", KINDS)
def test_a_space_names_its_kind_and_files_that_it_has(sdk: str, spaces: dict[str, Path]) -> None:
    head = settings(spaces[sdk])
    assert head["sdk"] == sdk
    assert len(str(head["short_description"])) <= 60, "the Hub refuses a longer one"
    if sdk == "gradio":
        assert (spaces[sdk] / str(head["app_file"])).is_file()
        assert "app_port" not in head
    else:
        assert (spaces[sdk] / "Dockerfile").is_file()


def test_the_docker_space_answers_where_its_settings_say(spaces: dict[str, Path]) -> None:
    dockerfile = (spaces["docker"] / "Dockerfile").read_text("utf-8")
    port = settings(spaces["docker"])["app_port"]
    assert f"GRADIO_SERVER_PORT={port}" in dockerfile
    copied = re.findall(r"^COPY --chown=\S+ (\S+) \.$", dockerfile, re.MULTILINE)
    assert all((spaces["docker"] / name).exists() for name in copied)


@pytest.mark.parametrize(("hardware", "cuda"), [(None, False), ("t4-small", True)])
def test_the_docker_space_gets_torch_for_its_hardware(
    hardware: str | None, cuda: bool, tmp_path: Path
) -> None:
    write_space("docker", tmp_path, hardware)
    (index,) = re.findall(
        r"^ARG TORCH_INDEX=(.*)", (tmp_path / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    assert bool(index) is not cuda


def test_zerogpu_gets_the_torch_that_it_offers_and_our_other_pins(spaces: dict[str, Path]) -> None:
    ours = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    theirs = (spaces["gradio"] / "requirements.txt").read_text("utf-8").splitlines()
    assert "torch==2.11.0" in theirs
    assert any(pin.startswith("spaces==") for pin in theirs)
    kept = {pin for pin in ours if not pin.startswith(("#", "torch=="))}
    assert kept < {*theirs}
    gradio = next(pin for pin in ours if pin.startswith("gradio["))
    assert settings(spaces["gradio"])["sdk_version"] == gradio.split("==")[1]


def files_of(space: Path) -> set[Path]:
    """What a Space has of the project's folders."""
    return {path.relative_to(space) for name in FOLDERS for path in (space / name).rglob("*.*")}


@pytest.mark.slow(8)
def test_a_space_has_all_files_that_a_merge_needs(spaces: dict[str, Path], tmp_path: Path) -> None:
    """The page is imported too, from the Space's own folder; the other kind has the same files."""
    assert files_of(spaces["docker"]) == files_of(spaces["gradio"])
    program = "import sys, app.ui.page; from merging.cli.main import main; sys.exit(main())"
    files = [f"assets/loras/{name}.safetensors" for name in ("sks-cat", "vxz-pizza")]
    arguments = ["merge", *files, "--method", "sum", "--out", str(tmp_path / "it.safetensors")]
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, *arguments],
        cwd=spaces["docker"],
        env={**os.environ, "PYTHONPATH": str(spaces["docker"])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "it.safetensors").is_file()


@pytest.mark.parametrize("sdk", KINDS)
def test_a_dry_run_shows_every_file_and_uploads_nothing(
    sdk: str,
    spaces: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: pytest.fail("the Hub was asked"))
    assert main(["--sdk", sdk, "me/studio", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for path in spaces[sdk].rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"  {path.relative_to(spaces[sdk]).as_posix()}\n" in shown
    assert f"sdk: {sdk}" in shown


@pytest.mark.parametrize("sdk", KINDS)
def test_the_whole_folder_is_uploaded_to_a_space_of_its_kind(
    sdk: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """huggingface_hub's own methods are looked at on the way to the network."""
    asked: list[dict[str, object]] = []

    def upload(_api: HfApi, **options: object) -> object:
        files = {path.name for path in Path(str(options["folder_path"])).iterdir()}
        asked.append({"files": files, **options})
        return type("Commit", (), {"oid": "4" * 40})

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(HfApi, "create_repo", lambda _api, *_, **options: asked.append(options))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert main(["--sdk", sdk, "me/studio", "--private"]) == 0
    created, uploaded = asked
    assert created["space_sdk"] == sdk
    assert created["private"] is True
    assert SpaceHardware(str(created["space_hardware"])) == HARDWARE[sdk]  # type: ignore[index]
    assert {"app", "merging", "assets", "README.md", "requirements.txt"} <= uploaded["files"]  # type: ignore[operator]
    assert uploaded["repo_type"] == "space"
    shown = capsys.readouterr()
    assert "https://huggingface.co/spaces/me/studio" in shown.out
    assert TOKEN not in shown.out + shown.err


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        ("me/studio", None, "There is no token"),
        ("me/studio", TOKEN, "could not be reached"),
        ("studio", TOKEN, "OWNER/NAME"),
    ],
    ids=["no token", "no network", "no owner"],
)
def test_what_stands_in_the_way_is_one_sentence(
    name: str,
    token: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    try:
        status = main(["--sdk", "docker", name])
    except SystemExit as end:  # argparse's
        status = int(str(end.code))
    assert status == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert TOKEN not in "".join(said)
