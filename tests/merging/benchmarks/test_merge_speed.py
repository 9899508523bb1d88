"""The benchmarks on small cases: both ways give one result; the tables say what was compared."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from merging.__main__ import main
from merging.adapter import Adapter
from merging.benchmarks import growth
from merging.benchmarks import peft_speed as weight_speed
from merging.benchmarks.growth import growth_plot, growth_table
from merging.benchmarks.merge_speed import bench, speed_table
from merging.benchmarks.render_speed import bench_pictures, pictures_table
from merging.benchmarks.write_speed import bench_writing, writing_table
from merging.bundled import shelf_pairs
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.random_sd15 import random_adapter as sd15_adapter
from merging.diffusion.random_sd15 import random_sd15
from merging.engine import merge
from merging.request import MergeRequest, Source
from tests.conftest import SINGLE, distance


@pytest.mark.slow
def test_the_papers_loop_with_stored_features_comes_to_the_single_passes_answer(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """Another capture, the same solver, on the text encoder and the first cross-attention.

    Of each picture 40 positions count, the same ones in both.
    """
    marks = (".self_attn.", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.")
    pair = [random_adapter(1, marks=marks), random_adapter(2, 8, 8.0, marks)]
    events: list[tuple[float, str]] = []
    sources = tuple(map(Source, pair))
    request = MergeRequest(sources, samples=2, targets="cross-attention", rows=40, **SINGLE)
    result = bench(base, request, 1, rounds=14, progress=lambda *event: events.append(event))
    assert result["apart"] < 1e-4
    assert result["rows"]["bare doubled forward pass"]["ratio"] == 1.0
    text = speed_table(result)
    assert "random-1 + random-2 on mini, 16 × 16 latents, 2 prompts each, cross" in text
    assert "cross-attention, delta, cpu" in text
    assert "the paper's loop, 14 rounds" in text and "apart" in text
    shares, texts = zip(*events, strict=True)
    assert list(shares) == sorted(shares) and shares[-1] == 1.0
    assert [step for step in result["rows"] if any(text.startswith(step) for text in texts)] == [
        *result["rows"]
    ]


@pytest.mark.slow
def test_weights_are_cut_as_peft_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_speed, "RANK", 4)
    monkeypatch.setattr(
        weight_speed, "MARKS", ("down_blocks.0.attentions.0.", "layers.0.self_attn")
    )
    result = weight_speed.bench_weights()
    assert result["modules"] == 16 and result["apart"] < 1e-4  # peft works in float32
    assert "16 modules, rank 4" in weight_speed.weights_table(result)


@pytest.mark.slow
def test_sd15_in_shape_is_merged_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 860 million parameters, tiny pictures: one LoRA on all attention gives itself back.

    The weights repeat ten million random values, which takes a tenth of the time of as many draws.
    """
    values = torch.randn(10_000_019, generator=torch.Generator().manual_seed(0))  # a prime

    def fill(weight: Tensor, _mean: float = 0.0, std: float = 1.0, **_: object) -> Tensor:
        for part in () if weight.is_meta else weight.detach().view(-1).split(len(values)):
            torch.mul(values[: len(part)], std, out=part)
        return weight

    monkeypatch.setattr(nn.init, "normal_", fill)
    shaped = random_sd15(side=8, device="cpu")
    assert sum(p.numel() for p in shaped.pipeline.unet.parameters()) == 859_520_964
    adapter = sd15_adapter(shaped, [".attn"], rank=4, seed=1)
    assert len(adapter.layers) == 128 + 72
    result = merge(MergeRequest((Source(adapter),), samples=1, **SINGLE), activations(shaped))
    assert distance(result.adapter, adapter) < 1e-4


@pytest.mark.slow
def test_a_table_ends_with_the_machine_the_versions_and_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--samples",
        "1",
        "--repeats",
        "1",
        "--rounds",
        "0",
        "--targets",
        "cross-attention",
    ]
    arguments += ["--mode", "delta+residual"]
    assert main(["bench", "mini", *arguments, "--device", "cpu"]) == 0
    output, progress = capsys.readouterr()
    assert (
        output.count("bare doubled forward pass") == output.count("cross-attention, delta+res") == 3
    )
    assert "lockstep, one pass, layer" in progress
    last = output.strip().splitlines()[-1]
    assert f"{torch.get_num_threads()} threads; Python {platform.python_version()}" in last
    assert f"torch {torch.__version__.partition('+')[0]}" in last
    assert f"`python -m merging bench mini {' '.join(arguments)} --device cpu`" in last


def test_growth_is_measured_case_by_case(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded base, in two cases; which one it is stands in the progress."""
    monkeypatch.setattr(growth, "random_sd15", lambda device: base)
    monkeypatch.setattr(growth, "COUNTS", (1, 2))
    monkeypatch.setattr(growth, "RANKS", (growth.RANK,))
    texts: list[str] = []
    result = growth.bench_growth(1, "cpu", lambda _share, text: texts.append(text))
    assert [row["loras"] for row in result["rows"]] == [1, 2]
    for count in (1, 2):
        start = f"{count} LoRAs of rank 16, lockstep, one pass, layer "
        assert any(text.startswith(start) for text in texts)


def test_growth_table_shows_seconds_per_lora() -> None:
    rows = [
        {"loras": 2, "rank": 16, "seconds": 4.0, "ratio": 1.2},
        {"loras": 8, "rank": 16, "seconds": 16.0, "ratio": 1.3},
    ]
    result = {"samples": 5, "layers": 104, "device": "cpu", "threads": 2, "rows": rows}
    assert growth_table(result).splitlines()[-1] == "| 8 | 16 | 16.0 | 1.00 | 1.30 |"
    assert growth_plot(result).width > growth_plot(result).height > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("mini --plot growth.png", "--plot works with growth only, not with mini"),
        ("mini --repeats 0", "Repeats must be at least 1 and rounds at least 0, not 0 and 20"),
        ("sd15 --side 12", "side of latents must be a multiple of 8, not 12"),
        ("mini --samples 0", "samples must be a whole number from 1 to 1000, not 0"),
        ("mini --teacher composed", "single teacher only; use --rounds 0"),
    ],
)
def test_impossible_options_are_refused_in_one_sentence(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_picture_is_measured_beside_the_plain_pipeline(base: Base) -> None:
    """Both draw the same picture; how fast they are is not tested."""
    pair = [entry.adapter(base.table) for entry in next(iter(shelf_pairs().values()))]
    result = bench_pictures(base, pair, repeats=1, steps=1)
    assert list(result["rows"]) == [
        "the plain pipeline",
        "ours",
        "the plain pipeline, the merge loaded by diffusers",
        "ours, with the merge",
    ]
    assert result["rows"]["the plain pipeline"]["ratio"] == 1.0
    assert "One picture of 1 steps on mini, cpu" in pictures_table(result)
    assert len(base.pipeline.get_active_adapters()) == 0, "the base is as it was"


@pytest.mark.slow
def test_every_format_is_written_by_a_process_of_its_own() -> None:
    result = bench_writing(layers=3)
    assert (result["layers"], list(result["rows"])) == (3, ["kohya", "diffusers", "full"])
    assert result["rows"]["full"]["bytes"] > 5 * result["rows"]["kohya"]["bytes"] > 0
    first, _, _, _, kohya, *_ = writing_table(result).splitlines()
    assert first == "SD 1.5 in shape, 3 layers of rank 16, fp16"
    assert kohya.startswith("| kohya | ")
