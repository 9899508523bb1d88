"""What inspect says: from the header alone, and from the values where they are asked for."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.__main__ import main
from merging.analysis.summary import MAX_HASHED_BYTES, summary
from merging.errors import MergeError
from merging.formats import read
from tests.merging.formats.families import CASES, weight
from tests.merging.formats.handmade import (
    CONV,
    FC1,
    SAMPLES,
    TO_K,
    TO_OUT,
    factors,
    kohya,
    large,
    saved,
)

TAGS = {"10_sks cat": {"sks cat": 20, "grass": 7}, "5_more": {"sks cat": 4}}
HEADER = {
    "modelspec.trigger_phrase": "sks cat",
    "trained_words": json.dumps(["sks cat", "sitting"]),
    "ss_tags": ",".join(f"tag {n}" for n in range(70)),
    "ss_tag_frequency": json.dumps(TAGS),
    "sshs_model_hash": "ab" * 32,
}

NEED_BASE = ("GLoRA", "IA³", "OFT", "OFT by inputs", "BOFT by inputs", "HRA")


def test_everything_that_the_header_says(tmp_path: Path) -> None:
    parts = {TO_K: factors(TO_K, 4), CONV: factors(CONV, 8), TO_OUT: factors(TO_OUT, 4)}
    tensors = kohya(parts, {TO_K: 2.0, CONV: torch.tensor(8, dtype=torch.int64)})
    tensors[f"{FC1.kohya}.diff_b"] = torch.ones(512)
    tensors[f"{TO_K.kohya}.diff_b"] = torch.ones(64)  # which has no bias
    tensors["lora_unet_nowhere.lora_down.weight"] = torch.ones(4, 8)
    tensors["bundle_emb.sks.string_to_param.*"] = torch.ones(3, 128)
    path = saved(tmp_path / "My Cat.safetensors", tensors, HEADER)
    found = summary(path)
    assert found["name"] == "My Cat"
    assert found["bytes"] == path.stat().st_size
    assert (found["family"], found["base"], found["needs_base"]) == ("kohya", "mini", False)
    assert found["layers"] == {"text_encoder": 0, "unet": 3}
    assert found["base_layers"] == {"text_encoder": 24, "unet": 168}
    assert found["unmatched"] == ["lora_unet_nowhere"]
    assert found["dropped"] == {"bias": 1, "unknown": 1}
    assert found["left_out"]["bias"] == [f"{TO_K.kohya}.diff_b"]
    assert found["shifts"] == {"bias": 1}
    assert found["embeddings"] == {"sks": 3}
    assert found["rank_counts"] == {"4": 2, "8": 1}
    assert found["alpha_counts"] == {"2": 1, "4": 1, "8": 1}  # TO_OUT has none: its rank
    assert found["dtypes"] == {"F16": 6}
    assert found["trigger"] == "sks cat"
    assert found["class_word"] == "cat"
    assert found["trained_words"] == {
        "modelspec.trigger_phrase": ["sks cat"],
        "trained_words": ["sks cat", "sitting"],
        "ss_tags": [f"tag {n}" for n in range(50)],
        "ss_tag_frequency": ["sks cat", "grass"],
    }
    assert found["hashes"] == {"sshs_model_hash": "ab" * 32}
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(found["warnings"]) == 4
    json.dumps(found)


@pytest.mark.parametrize(
    "alpha",
    [torch.tensor(3.0, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)]
    + [torch.tensor([3], dtype=dtype) for dtype in (torch.int8, torch.uint8, torch.int32)],
)
def test_alphas_of_every_type_are_read_in_place(tmp_path: Path, alpha: torch.Tensor) -> None:
    tensors = kohya({TO_K: factors(TO_K)}, {TO_K: alpha})
    assert summary(saved(tmp_path / "a.safetensors", tensors))["alphas"] == [3.0]


@pytest.mark.parametrize("alpha", [float("nan"), -float("inf")])
def test_an_alpha_that_is_no_number_is_refused_as_by_read(tmp_path: Path, alpha: float) -> None:
    """JSON has no word for it."""
    path = saved(tmp_path / "a.safetensors", kohya({TO_K: factors(TO_K)}, {TO_K: alpha}))
    for look in (summary, read):
        with pytest.raises(MergeError, match=rf"^a\.safetensors: layer {TO_K.name} has values"):
            look(path)


def test_a_header_commands_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"modelspec.trigger_phrase": "ねこ \x1b[2J\n  warning  none\u202e"}
    path = saved(tmp_path / "a.safetensors", kohya({TO_K: factors(TO_K)}, {TO_K: 4.0}), told)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert r"  trigger  ねこ \x1b[2J\n  warning  none\u202e" in text
    assert "\x1b" not in text


def test_alphas_of_peft_come_from_its_settings(tmp_path: Path) -> None:
    tensors = {
        f"{TO_K.name}.lora_A.weight": factors(TO_K).down,
        f"{TO_K.name}.lora_B.weight": factors(TO_K).up,
    }
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 16})}
    assert summary(saved(tmp_path / "a.safetensors", tensors, header))["alphas"] == [16.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_header_and_values_agree_on_every_family(tmp_path: Path, name: str) -> None:
    case = CASES[name]()
    tensors = {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()}
    path = saved(tmp_path / "a.safetensors", tensors)
    weights = {sample.name: weight(sample) for sample in SAMPLES}.get
    quick, whole = summary(path), summary(path, values=True, weights=weights)
    assert {key: value for key, value in whole.items() if key in quick} | {
        key: quick[key] for key in ("ranks", "rank_counts")
    } == quick
    ((block, norm),) = whole["block_norms"].items()
    assert block == "IN01" if case.sample.name.startswith("unet.") else block == "BASE"
    assert norm == pytest.approx(case.change.norm().item(), rel=1e-5)
    assert quick["needs_base"] == (case.kind in NEED_BASE or "DoRA" in case.kind)


def test_values_that_need_the_base_ask_for_it(tmp_path: Path) -> None:
    case = CASES["IA³ on inputs"]()
    tensors = {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()}
    with pytest.raises(MergeError, match="--base mini"):
        summary(saved(tmp_path / "a.safetensors", tensors), values=True)


def test_values_are_checked_only_where_they_are_asked_for(tmp_path: Path) -> None:
    tensors = kohya({TO_K: factors(TO_K)}, {TO_K: 2.0})
    tensors[f"{TO_K.kohya}.lora_up.weight"].fill_(float("nan"))
    path = saved(tmp_path / "a.safetensors", tensors)
    assert summary(path)["ranks"] == [4]
    with pytest.raises(MergeError, match="not finite"):
        summary(path, values=True)


def test_a_large_file_is_looked_at_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header and the alphas are read, which lie in as many places as there are layers."""
    path = large(tmp_path / "large.safetensors")
    taken: list[int] = []

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            taken.append(super().readinto(buffer) or 0)
            return taken[-1]

    monkeypatch.setattr(Path, "open", lambda self, _mode: io.BufferedReader(Counted(self)))
    found = summary(path)
    assert path.stat().st_size > 200 << 20 > MAX_HASHED_BYTES
    assert 0 < sum(taken) < 4 << 20
    assert found["layers"] == found["base_layers"] == {"text_encoder": 72, "unet": 282}
    assert found["rank_counts"] == {"128": 354}
    assert found["alpha_counts"] == {"128": 354}  # 0 in the file means the rank
    assert found["sha256"] is None
