"""What is known of base models before any of them is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

import pytest

from merging.base_models import BASE_MODELS, MINI, SD15, SD15_FILES, base_model
from merging.formats import TABLES
from tests.conftest import HEAVY, ROOT


def test_every_known_base_has_a_layer_table_and_says_so_in_a_header() -> None:
    assert set(BASE_MODELS) == set(TABLES)
    fields = [model.header for model in BASE_MODELS.values()]
    assert len({field["modelspec.architecture"] for field in fields}) == len(fields)
    assert len({frozenset(field) for field in fields}) == 1  # convert takes them out by name


def test_the_embedded_base_and_what_belongs_to_it_are_there() -> None:
    for folder in (MINI.source, MINI.clip, MINI.detector):
        assert Path(folder).is_dir()
    assert MINI.guidance == 3


def test_sd15_is_one_commit_of_a_repository() -> None:
    assert SD15.source == SD15.hub_id
    assert len(SD15.revision or "") == 40


def test_the_download_of_sd15_is_what_its_files_take() -> None:
    """Four bytes for every number of the architectures, and less than a thousandth more."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from merging.diffusion.loading import sd15_config as config

    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel.from_config(config.SD15_UNET),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**config.SD15_TEXT_ENCODER)),
            "vae": AutoencoderKL.from_config(config.SD15_VAE),
        }
    for part, model in parts.items():
        numbers = 4 * sum(parameter.numel() for parameter in model.parameters())
        assert numbers < SD15_FILES[part] < 1.001 * numbers, part
    assert SD15.download == "about 5.5 GB"


@pytest.mark.parametrize("name", ["/models/my-base", "owner/model"])
def test_any_other_base_is_used_as_sd15_is(name: str) -> None:
    model = base_model(name)
    assert (model.source, model.title, model.revision) == (name, name, None)
    assert (model.guidance, model.clip, model.places) == (SD15.guidance, SD15.clip, SD15.places)
    assert not (model.detector or model.folder or model.hub_id)


def test_a_known_base_goes_by_its_name() -> None:
    assert base_model("mini") is MINI
    assert base_model("sd15") is SD15


def test_nothing_heavy_is_imported() -> None:
    check = f"import sys, merging.base_models; print([m for m in {HEAVY} if m in sys.modules])"
    done = run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
