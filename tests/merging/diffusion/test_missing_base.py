"""A base model that is not there: one sentence of ours, without paths or library text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from merging.base_models import MINI, base_model
from merging.diffusion.base import load_base
from merging.diffusion.loading.missing_base import why_missing
from merging.errors import MergeError


def sentence(name: str | Path) -> str:
    """What is said of a base, which may be nothing but this."""
    with pytest.raises(MergeError) as refused:
        load_base(str(name), "cpu")
    text = str(refused.value)
    assert "\n" not in text and text.endswith("on this machine.")
    assert "(mini)" in text, "what to do without it"
    for word in ("pretrained", "snapshot", "cache", "Errno", "http", "Error"):
        assert word not in text
    return text


def test_without_network() -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    text = sentence("sd15")
    begins = "Stable Diffusion 1.5 is not on this machine and could not be downloaded; connect to"
    assert text.startswith(begins) and "one download of about 5.5 GB" in text
    assert sentence("owner/name").startswith("owner/name is not on this machine")


def test_without_a_hub_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "connect to the network" in sentence("sd15")


def test_a_model_that_the_hub_does_not_have() -> None:
    """As the Hub's client tells it: behind another error."""
    try:
        try:
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)
        except RepositoryNotFoundError as error:
            raise OSError("me/pets is not a local folder …") from error
    except OSError as error:
        text = why_missing(base_model("me/pets"), error)
    assert text.startswith("There is no public model me/pets on the Hugging Face Hub; correct its")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    text = sentence(tmp_path)
    assert text.startswith(f"The folder {tmp_path.name} is no base in diffusers layout: it has no")
    assert str(tmp_path.parent) not in text


def test_a_folder_that_lacks_a_part(tmp_path: Path) -> None:
    assert MINI.folder is not None
    folder = shutil.copytree(MINI.folder, tmp_path / "half")
    shutil.rmtree(folder / "unet")
    assert "half is no whole base in diffusers layout: it has no unet; name" in sentence(folder)
    (folder / "unet").mkdir()
    assert "a file in it is missing or damaged" in sentence(folder)


def test_a_name_of_nothing(tmp_path: Path) -> None:
    text = sentence(tmp_path / "none")
    assert text.startswith("There is no folder or file none here")
    assert str(tmp_path) not in text
