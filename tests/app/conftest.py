"""One running app for the whole folder, with the real engine on the embedded base."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client
from playwright.sync_api import Browser, ViewportSize

from app.examples import examples
from app.schemas.draw import ComparisonOrder
from app.service import Studio
from app.settings.model import Settings
from merging import formats
from merging.adapter import Adapter, LoraLayer
from merging.bundled import LORAS
from tests.app.browsing import DESKTOP, Arrive, Visitor, chromium

CAT, PIZZA = LORAS / "sks-cat.safetensors", LORAS / "vxz-pizza.safetensors"


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A person's own machine, on a port that is free just now, which goes before any file."""
    port = free_port()
    return Settings(
        port=port,
        device="cpu",
        work=tmp_path_factory.mktemp("work"),
        max_files=4,
        file=tmp_path_factory.mktemp("start") / "settings.toml",
        above={"port": str(port)},
    )


@pytest.fixture(scope="session")
def studio(settings: Settings) -> Studio:
    """The service that the running app uses too."""
    return Studio(settings)


@pytest.fixture(scope="session")
def blocks(studio: Studio) -> Iterator[Any]:
    """The running app, as Gradio has it."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.settings.work / "gradio")
    from app.ui.launch import launch
    from app.ui.page import build

    page = build(studio)
    launch(page, studio.settings, prevent_thread_lock=True)
    yield page
    page.close()


@pytest.fixture(scope="session")
def url(blocks: Any) -> str:
    """Its address."""
    return str(blocks.local_url)


@pytest.fixture(scope="module")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A program that calls the public endpoints."""
    downloads = tmp_path_factory.mktemp("downloads")
    client = Client(url, verbose=False, download_files=downloads, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def arrive(browser: Browser, url: str) -> Iterator[Arrive]:
    """Open the page as a new visitor; in the end nobody may have had anything to complain of."""
    visitors: list[Visitor] = []

    def come(viewport: ViewportSize = DESKTOP, query: str = "") -> Visitor:
        page = browser.new_context(viewport=viewport).new_page()
        visitors.append(Visitor(page))
        return visitors[-1].open(url + query)

    yield come
    for visitor in visitors:
        visitor.page.context.close()
        assert visitor.complaints == []


@pytest.fixture
def cheaper(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it, and what the page orders from then on is drawn with two steps a picture.

    With options of a merge, those are changed too; the page then takes its own for new ones.
    """
    whole = studio.merge_and_draw

    def begin(size: str = "", **options: Any) -> None:
        def merge_and_draw(session: str, order: ComparisonOrder) -> Any:
            scene = replace(order.scene, steps=2, size=size or order.scene.size)
            return whole(session, ComparisonOrder(replace(order.merge, **options), scene))

        monkeypatch.setattr(studio, "merge_and_draw", merge_and_draw)

    return begin


@pytest.fixture(scope="session")
def pair() -> tuple[Path, Path]:
    """Two bundled LoRAs that a person may want in one picture."""
    (files,) = (shown.files for shown in examples() if CAT in shown.files)
    assert files == (CAT, PIZZA)
    return CAT, PIZZA


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that must be refused, or taken with a word of warning, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("bad")
    files = {
        name: folder / f"{name}.safetensors" for name in ("text", "cut", "sdxl", "silent", "sd15")
    }
    files["text"].write_bytes(b"this is not a model at all, but a letter to a friend")
    files["cut"].write_bytes(CAT.read_bytes()[:-1000])
    formats_of_others(files["sdxl"])
    silent = replace(formats.read(CAT), trigger="", metadata={})
    formats.write_kohya(silent, files["silent"], torch.float16)
    formats.write_kohya(for_sd15("abc dog", seed=0), files["sd15"], torch.float16)
    return files


def formats_of_others(path: Path) -> None:
    """A LoRA for SDXL, whose second text encoder no other model has."""
    from safetensors.torch import save_file

    layer = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    save_file(
        {
            f"{layer}.lora_down.weight": torch.ones(4, 1280),
            f"{layer}.lora_up.weight": torch.ones(1280, 4),
            f"{layer}.alpha": torch.tensor(4.0),
        },
        path,
    )


def for_sd15(trigger: str, seed: int) -> Adapter:
    """A LoRA for the real Stable Diffusion, on its cross-attention."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: LoraLayer(
            torch.randn(shape[0], 2, generator=generator),
            torch.randn(2, shape[1], generator=generator),
            alpha=2.0,
        )
        for name, shape in formats.table("sd15").shapes.items()
        if name.endswith("attn2.to_k")
    }
    return Adapter("sd15", layers, base="sd15", trigger=trigger)
