"""What is known of each base model, in one place: nothing is loaded, and nothing heavy imported.

A base is named as `--base` and the recipe name it: "mini", "sd15", a folder in diffusers layout or
a Hub id. Whatever is not in BASE_MODELS is taken for another checkpoint of Stable Diffusion 1.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merging.io.assets import ASSETS


@dataclass(frozen=True)
class BaseModel:
    """One base model; the defaults hold for any checkpoint of Stable Diffusion 1.x."""

    name: str
    title: str  # as it is called inside a sentence
    label: str = ""  # on the page's list of bases
    folder: Path | None = None  # where it ships with the project
    hub_id: str = ""
    download: str = "several GB"  # what it costs to have it
    revision: str | None = None  # the commit on the Hub
    guidance: float = 7.0  # at which it draws best
    clip: str = "openai/clip-vit-base-patch32"  # folder or Hub id; scores its pictures
    detector: str = ""  # folder of the network that counts its objects, "" where there is none
    header: Mapping[str, str] = field(default_factory=dict)  # how a LoRA file says it is for it
    a1111_version: str = "Unknown"  # A1111's "sd version" of its LoRAs
    places: tuple[str, ...] = ("", " on a wooden table", " in a garden", " at the beach at sunset")
    # ^ where things are in the page's example prompts

    @property
    def source(self) -> str:
        """What diffusers loads it from: a folder, a single file or a Hub id."""
        return str(self.folder or self.hub_id or self.name)


MINI = BaseModel(
    name="mini",
    title="the embedded mini model",
    label="Embedded mini model · 128×128, nothing to download",
    folder=ASSETS / "mini-sd",
    guidance=3.0,  # its colours burn above
    clip=str(ASSETS / "mini-clip"),
    detector=str(ASSETS / "detector"),
    # It is no SD 1.5, and a file for it must not be offered as one.
    header={
        "ss_base_model_version": "iteris_mini",
        "ss_v2": "False",
        "modelspec.architecture": "iteris-mini/lora",
        "modelspec.resolution": "128x128",
    },
    # It was trained on ten colours and six places, and knows no others.
    places=(" on a green background", " in the snow", " on a white background", " by the sea"),
)
# Bytes of the files that diffusers downloads for it, in fp32, as the Hub lists them: four for each
# number, and a header.
SD15_FILES = {
    "unet": 3_438_167_540,
    "text_encoder": 492_265_874,
    "vae": 334_643_276,
    "safety_checker": 1_215_981_830,
}
SD15_DOWNLOAD = f"{sum(SD15_FILES.values()) / 1e9:.1f} GB"
SD15 = BaseModel(
    name="sd15",
    title="Stable Diffusion 1.5",
    label=f"Stable Diffusion 1.5 · 512×512, downloaded once, {SD15_DOWNLOAD}",
    hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    download=f"about {SD15_DOWNLOAD}",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    # Forge lists a LoRA under SD 1 for this architecture alone.
    header={
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.resolution": "512x512",
    },
    a1111_version="SD1",
)
BASE_MODELS = {model.name: model for model in (MINI, SD15)}


def base_model(name: str) -> BaseModel:
    """The record of a base; of an unknown folder or Hub id, one that calls it by its name."""
    return BASE_MODELS.get(name) or BaseModel(name, title=name)
