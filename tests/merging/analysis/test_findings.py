"""What the weights tell of files that were altered: nothing of honest ones, a number of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from merging import formats
from merging.adapter import Adapter, LoraLayer
from merging.analysis.findings import (
    LOUD_BLOCK,
    PERSISTENT,
    TWIN_COSINE,
    block_levels,
    cosine,
    file_findings,
    findings,
    persistence,
)
from merging.bundled import LORAS
from merging.cli.main import main
from merging.errors import MergeError
from merging.python_api import merge
from merging.request import MergeRequest, Source
from tests.conftest import SHELF

BUNDLED = sorted(SHELF.values())[:6]


@cache
def lora(path: Path) -> Adapter:
    return formats.read(path)


def kinds(*adapters: Adapter) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.files) for finding in findings(adapters)]


def scaled(adapter: Adapter, factor: float, marks: str = "") -> Adapter:
    """The adapter with the change of some layers times a factor, under other bytes."""
    layers = {
        name: replace(layer, alpha=layer.alpha * factor) if marks in name else layer
        for name, layer in adapter.layers.items()
    }
    return replace(adapter, name="altered", layers=layers, sha256="altered")


def test_honest_files_have_no_findings_and_keep_their_distance() -> None:
    """The figures on which the thresholds rest."""
    loras = [lora(path) for path in BUNDLED]
    assert findings(loras) == ()
    for adapter in loras:
        levels = sorted(block_levels(adapter).values())
        assert levels[-1] < LOUD_BLOCK * levels[len(levels) // 2]
        others = [other for other in loras if other is not adapter]
        assert 0 < persistence(adapter, others) < PERSISTENT
        assert max(cosine(adapter, other) for other in others) < TWIN_COSINE / 2


def test_a_loud_block_is_found_and_named() -> None:
    cat = lora(BUNDLED[0])
    assert file_findings(cat) == ()
    (finding,) = file_findings(scaled(cat, 40, "mid_block"))
    assert (finding.kind, finding.files) == ("loud block", ("altered",))
    assert finding.number > LOUD_BLOCK
    assert "set the weight of M" in finding.sentence


def test_a_copy_under_another_name_is_found_whatever_its_strength_and_form() -> None:
    cat, other = lora(BUNDLED[0]), lora(BUNDLED[1])
    turned = {
        name: LoraLayer(layer.up * -2, layer.down * -0.5, layer.alpha)
        for name, layer in cat.layers.items()
    }
    copy = replace(cat, name="altered", layers=turned, sha256="x")
    assert cosine(cat, copy) == pytest.approx(1.0)
    assert kinds(cat, copy, other) == [("twin", (cat.name, "altered"))]
    assert kinds(cat, replace(cat, name="altered")) == [], "the same bytes are the same file"


def test_a_file_that_survives_at_small_strength_is_found() -> None:
    """Ten times as loud as its like: at a tenth of the strength it is as loud as they are."""
    one, two, three = (lora(path) for path in BUNDLED[:3])
    found = kinds(one, two, scaled(three, 20))
    assert ("persistent", ("altered",)) in found
    assert ("loud file", ("altered",)) in found
    assert all(files == ("altered",) for _, files in found)


def test_layers_that_one_file_alone_changes_are_found() -> None:
    one, two = lora(SHELF["bwx fish"]), lora(SHELF["fnb house"])
    shared = one.layers.keys() & two.layers.keys()
    extra = min(two.layers.keys() - one.layers.keys())
    layers = {name: two.layers[name] for name in (*shared, extra)}
    odd = replace(two, name="altered", sha256="altered", layers=layers)
    one = replace(one, layers={name: one.layers[name] for name in shared})
    found = findings([one, replace(one, name="b", sha256="b"), odd])
    (lone,) = (finding for finding in found if finding.kind == "lone layers")
    assert (lone.files, lone.number) == (("altered",), 1.0)
    assert extra in lone.sentence


def test_figures_are_those_of_whole_matrices(random_adapter: Callable[..., Adapter]) -> None:
    one, two = random_adapter(1, marks=("attn2.to_k",)), random_adapter(2, marks=("attn2.to_k",))
    dense = [
        torch.cat([layer.delta().double().flatten() for layer in adapter.layers.values()])
        for adapter in (one, two)
    ]
    expected = torch.nn.functional.cosine_similarity(*dense, dim=0).item()
    assert cosine(one, two) == pytest.approx(expected, abs=1e-9)
    ratios = []
    for name, layer in one.layers.items():
        _, sizes, inputs = torch.linalg.svd(layer.delta().double())
        answer = two.layers[name].delta().double() @ inputs[0]
        ratios.append((sizes[0] / answer.norm()).item())
    median = sorted(ratios)[len(ratios) // 2]
    assert persistence(one, [two]) == pytest.approx(median, rel=0.2)


def test_the_merge_and_inspect_show_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cat, other = lora(BUNDLED[0]), lora(BUNDLED[1])
    loud = scaled(cat, 40, "mid_block")
    sources = tuple(Source(adapter, trigger=adapter.name) for adapter in (loud, other))
    notes = merge(MergeRequest(sources, method="sum")).report.notes
    assert any("its change in block" in note for note in notes)
    altered = tmp_path / "altered.safetensors"
    formats.write_kohya(loud, altered, torch.float32)
    assert main(["inspect", str(altered), str(BUNDLED[1]), "--values", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "loud block" in [finding["kind"] for finding in answer["findings"]]
    assert main(["inspect", str(altered), "--values"]) == 0
    assert "finding  altered: its change in block" in capsys.readouterr().out


def test_verify_finds_the_inputs_or_names_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, two = BUNDLED[:2]
    merged = tmp_path / "both.safetensors"
    assert main(["merge", str(one), str(two), "--method", "sum", "--base", "mini",
                 "--out", str(merged)]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["verify", str(merged), str(two), str(one), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]) for row in answer["inputs"]] == [one, two]
    changed = tmp_path / one.name
    changed.write_bytes(one.read_bytes()[:-1] + b"\1")
    assert main(["verify", str(merged), str(changed)]) == 2
    said = capsys.readouterr().err
    assert f"{one.name} has other bytes" in said
    assert f"{two.stem} (SHA-256" in said and "is missing" in said
    assert main(["verify", str(one), str(two)]) == 2
    assert "no recipe" in capsys.readouterr().err


def test_every_bundled_file_is_without_findings() -> None:
    for path in sorted(LORAS.glob("*.safetensors")):
        try:
            assert file_findings(lora(path)) == (), path.name
        except MergeError:
            continue  # a file that needs the base, or of textual inversions
