"""What many tests share: the embedded base, and adapters with random but real layers.

torch and the like are imported where they are used: the process that only hands the tests out to
others reads this file as well.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest

if TYPE_CHECKING:
    import torch

    from merging.adapter import Adapter, LoraLayer
    from merging.diffusion.base import Base

ROOT = Path(__file__).parents[1]
LORAS = ROOT / "assets" / "loras"
SHELF = {  # trigger phrase → file
    entry["trigger"]: LORAS / entry["file"]
    for entry in json.loads((LORAS / "shelf.json").read_text("utf-8"))["loras"]
}
# Each LoRA on its own prompts, and its change alone imitated: what the formulas' tests are about.
SINGLE: dict[str, Any] = {"teacher": "single", "mode": "delta"}
COMMIT = "4" * 40  # of everything on the Hub, in tests
Sizes = dict[str, int]  # file → bytes
HEAVY = (  # packages that take long to import
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors.torch",
    "greenlet",
)
ATTENTION = (".self_attn.", ".attn1.", ".attn2.")
APPS = {"blocks", "space", "server"}  # fixtures that start the page
# Of a core, for all cases of a test, very roughly.
BROWSER_SECONDS, SLOW_SECONDS, APP_SECONDS, QUICK_SECONDS = 20, 5, 2, 0.3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives the browser or needs an app that runs, by the fixtures that it asks for.

    Long files come first, so that processes which share the files end at about the same time.
    """
    seconds = defaultdict[Path, dict[str, float]](dict)  # of a file's tests, by name
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "browser" in fixtures:
            item.add_marker(pytest.mark.browser)
        if APPS.intersection(fixtures):
            item.add_marker(pytest.mark.slow(APP_SECONDS))
        seconds[item.path][getattr(item, "originalname", item.name)] = seconds_of(item)
    items.sort(key=lambda item: -sum(seconds[item.path].values()))


def seconds_of(item: pytest.Item) -> float:
    """Of a core, for all cases of a test: as its mark has it, slow(seconds), or by its marks."""
    known = [mark.args[0] for mark in item.iter_markers("slow") if mark.args]
    if item.get_closest_marker("browser"):
        known.append(BROWSER_SECONDS)
    usual = SLOW_SECONDS if item.get_closest_marker("slow") else QUICK_SECONDS
    return max(known, default=usual)


@pytest.fixture(scope="session")
def base() -> Base:
    """The embedded base, on the CPU."""
    from merging.diffusion.base import load_base

    return load_base("mini", "cpu")


@pytest.fixture(scope="session")
def random_adapter(base: Base) -> Callable[..., Adapter]:
    """Make an adapter whose every change is ``size`` times as large as the weight it changes."""
    import torch

    from merging.adapter import Adapter

    def make(
        seed: int,
        rank: int = 4,
        alpha: float = 2.0,
        marks: Sequence[str] = ATTENTION,
        size: float = 0.3,
    ) -> Adapter:
        generator = torch.Generator().manual_seed(seed)
        layers = {
            name: random_layer(layer.weight.flatten(1), rank, alpha, size, generator)
            for name, layer in base.layers.items()
            if any(mark in name for mark in marks)
        }
        return Adapter(f"random-{seed}", layers, base="mini", trigger=f"rn{seed} cat")

    return make


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sizes], list[Any]]:
    """Put files of these sizes, each of them the cat, into the Hub's model me/pets.

    What is asked for is noted.
    """
    from merging.io import hub

    def there(sizes: Sizes) -> list[Any]:
        asked: list[Any] = []

        def model_info(api: Any, repo: str, revision: str | None, files_metadata: bool) -> Any:
            assert files_metadata
            asked.append((repo, revision, *(["as anybody"] if api.token is False else [])))
            siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
            return SimpleNamespace(sha=COMMIT, siblings=siblings)

        def download(repo: str, file: str, revision: str, **where: Any) -> str:
            asked.append(
                (repo, file, revision, *(["as anybody"] if where["token"] is False else []))
            )
            place = (where["cache_dir"] or tmp_path / "cache") / file
            place.parent.mkdir(parents=True, exist_ok=True)
            return str(shutil.copy(SHELF["sks cat"], place))

        monkeypatch.setattr(hub.HfApi, "model_info", model_info)
        monkeypatch.setattr(hub, "hf_hub_download", download)
        return asked

    return there


def random_layer(
    weight: torch.Tensor, rank: int, alpha: float, size: float, generator: torch.Generator
) -> LoraLayer:
    """Factors with ‖Δ‖ = size · ‖weight‖."""
    import torch

    from merging.adapter import LoraLayer

    rank = min(rank, *weight.shape)
    up = torch.randn(weight.shape[0], rank, generator=generator)
    down = torch.randn(rank, weight.shape[1], generator=generator)
    scale = size * weight.detach().norm() / ((alpha / rank) * (up @ down)).norm()
    return LoraLayer(up * scale, down, alpha)


def distance(one: Adapter, other: Adapter) -> float:
    """Largest ‖Δ − Δ'‖ / ‖Δ'‖ over all layers of either.

    A layer that one lacks is infinitely far, unless it is zero: a file may have such a layer
    because a program recognises the file by it.
    """
    worst = 0.0
    for name in {*one.layers, *other.layers}:
        ours, theirs = (
            adapter.layers[name].delta().double() if name in adapter.layers else None
            for adapter in (one, other)
        )
        if ours is None or theirs is None:
            if any(delta is not None and delta.any() for delta in (ours, theirs)):
                return float("inf")
            continue
        worst = max(worst, ((ours - theirs).norm() / theirs.norm()).item())
    return worst


def speaking(adapter: Adapter) -> set[str]:
    """The layers that change anything: diffusers' loader may need one of zeros beside them."""
    return {name for name, layer in adapter.layers.items() if layer.up.any()}
