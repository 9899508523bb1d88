"""tune on the embedded base: its judges, what it stores, and its command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.cli.arguments.file_argument import parse_file_argument
from merging.diffusion.base import Base
from merging.engine import merge
from merging.errors import MergeError
from merging.linalg.closed_form import objective
from merging.linalg.delta import ScaledDeltas
from merging.request import MergeRequest, Source
from merging.runtime.progress import never, silent
from merging.tuning.judges import LayerJudge, Pictures, build_judge_of, halves
from merging.tuning.knobs import file_argument, knobs_of, with_factors
from merging.tuning.run import Tuning, tune
from tests.conftest import SHELF, distance
from tests.merging.cli.commands import done, refused

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
SMALL = {"samples": 2, "targets": "cross-attention", "method": "sum"}


@pytest.fixture
def pair(random_adapter: Callable[..., Adapter]) -> MergeRequest:
    marks = ("attn2.to_k", "self_attn.q_proj")
    one, two = (random_adapter(seed, marks=marks) for seed in (1, 2))
    return MergeRequest((Source(one), Source(two, 0.5)), **SMALL)  # type: ignore[arg-type]


def test_factors_multiply_the_strengths(pair: MergeRequest) -> None:
    tuned = with_factors(pair, knobs_of(pair, False), (0.5, 1.5))
    assert [source.strength for source in tuned.sources] == [0.5, 0.75]
    blocks = knobs_of(pair, True)
    assert {knob.block for knob in blocks} >= {"BASE", "M00"}
    by_block = with_factors(pair, blocks, [0.5] * len(blocks))
    whole = with_factors(pair, knobs_of(pair, False), (0.5, 0.5))
    assert distance(merge(by_block).adapter, merge(whole).adapter) < 1e-6


def test_tuned_strengths_are_typed_as_files(pair: MergeRequest) -> None:
    blocks = knobs_of(pair, True)
    for knobs, source in ((knobs_of(pair, False), pair.sources[1]), (blocks, pair.sources[0])):
        request = replace(pair, sources=(replace(source, text_encoder=0.5), pair.sources[1]))
        tuned = with_factors(request, knobs, [0.7] * len(knobs)).sources[0]
        read = parse_file_argument(file_argument("a.safetensors", tuned))
        assert (read.strength, read.text_encoder, read.unet) == pytest.approx(
            (tuned.strength, tuned.text_encoder, tuned.unet)
        )
        weights = tuned.blocks and {block: tuned.blocks.get(block, 0.0) for block in BLOCKS}
        assert read.blocks == (weights and pytest.approx(weights))


def test_half_of_the_prompts_are_held_out(pair: MergeRequest) -> None:
    one, two = halves(pair)
    for a, b in zip(one.sources, two.sources, strict=True):
        assert len(a.prompts) == len(b.prompts) == pair.samples
        assert not set(a.prompts) & set(b.prompts)
        assert all(a.words in prompt for prompt in (*a.prompts, *b.prompts))
    with pytest.raises(MergeError, match="two prompts or more"):
        halves(replace(pair, sources=(replace(pair.sources[0], prompts=("a cat",)),)))


@pytest.mark.slow
def test_the_layers_judge_by_the_paper_s_objective(base: Base, pair: MergeRequest) -> None:
    """1 for a LoRA by itself, and for a merge what the objective is on dense matrices."""
    alone = replace(pair, sources=pair.sources[:1])
    judge = LayerJudge(base, alone, silent, never)
    assert judge(pair.sources[0].adapter) == pytest.approx(
        [1.0] * len(judge(alone.sources[0].adapter))
    )
    judge, merged = LayerJudge(base, pair, silent, never), merge(pair).adapter
    changes = ScaledDeltas(merged.layers, 1.0)
    for half in (False, True):
        for problem, number in zip(judge._halves[half], judge(merged, half), strict=True):
            lost = whole = 0.0
            for i, (rows, weight) in enumerate(zip(problem.rows, problem.weights, strict=True)):
                gram = rows.summed_gram().gram
                change = problem.deltas[i]
                own = torch.zeros_like(problem.weight) if change is None else change.dense()
                error = own - changes[problem.name].dense()
                lost += weight * torch.trace(error @ gram @ error.T).item()
                whole += weight * torch.trace(own @ gram @ own.T).item()
            assert number == pytest.approx(1 - lost / whole, abs=1e-6)
            assert objective(problem, changes[problem.name]) == pytest.approx(lost, rel=1e-5)


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_left(base: Base, pair: MergeRequest, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    tuned = tune(base, pair, Tuning(budget=4), whole, silent)
    tune(base, pair, Tuning(budget=1), parts, silent)
    assert len(json.loads(parts.read_text())["trials"]) == 3
    again = tune(base, pair, Tuning(budget=4), parts, silent)
    assert parts.read_bytes() == whole.read_bytes()
    assert (again.verdict, again.held_out) == (tuned.verdict, tuned.held_out)
    stored = json.loads(whole.read_text())
    assert stored["best"]["score"] == max(trial.score for trial in tuned.trials)
    for other, tuning in ((replace(pair, seed=1), Tuning()), (pair, Tuning(by_block=True))):
        with pytest.raises(MergeError, match="the trials of another search"):
            tune(base, other, tuning, parts, silent)
    parts.write_text("{}")
    with pytest.raises(MergeError, match="no stored search"):
        tune(base, pair, Tuning(), parts, silent)


def test_what_cannot_be_tuned_is_refused(base: Base, pair: MergeRequest, tmp_path: Path) -> None:
    for request, tuning, words in (
        (replace(pair, refine=3), Tuning(), "leave out --refine"),
        (pair, Tuning(budget=0), "--budget must be at least 1, not 0"),
    ):
        with pytest.raises(MergeError, match=words):
            tune(base, request, tuning, tmp_path / "s.json", silent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["advantage", "clip"])
def test_pictures_of_the_loras_are_better_than_of_the_base(
    name: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_PICTURES", 1)
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_STEPS", 6)
    sources = tuple(parse_file_argument(str(file)).source(base) for file in (CAT, PIZZA))
    request = MergeRequest(sources, method="sum")
    gray = tmp_path / "gray.png"
    Image.new("RGB", (64, 64), "gray").save(gray)
    pictures = Pictures(1, 8, {"sks cat": [gray]})
    judge = build_judge_of(name, base, request, pictures, silent, never)  # type: ignore[arg-type]
    merged = merge(request).adapter
    weak = merge(with_factors(request, knobs_of(request, False), (0.05, 0.05))).adapter
    numbers = judge(merged)
    assert len(numbers) == 1
    assert sum(numbers) > sum(judge(weak))
    assert judge(merged, held_out=True) != numbers


@pytest.mark.slow
def test_the_command_says_what_to_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, words = tmp_path / "s.json", ("--method", "sum", "--samples", 2)
    words = (*words, "--targets", "cross-attention", "--budget", 2)
    plot = tmp_path / "search.png"
    said = done(capsys, "tune", CAT, f"{PIZZA}@0.5", *words, "--out", out, "--plot", plot)
    assert len(Image.open(plot).convert("RGB").getcolors(1 << 20)) > 3, "some lines"
    assert said["trials"] == 5
    assert set(said["best"]) == {"as given", "random", "tuned"}
    read = [parse_file_argument(text) for text in said["files"]]
    assert [file.path for file in read] == [CAT, PIZZA]
    assert out.is_file()
    line = refused(capsys, "tune", CAT, PIZZA, *words, "--out", out)
    assert "the trials of another search" in line
