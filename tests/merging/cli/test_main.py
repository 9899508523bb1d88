"""The command line in a subprocess, on the shelf's own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from merging import formats
from merging.__main__ import main
from merging.adapter import Adapter, LoraLayer
from merging.methods import METHODS
from tests.conftest import HEAVY, ROOT, SHELF, distance
from tests.merging.cli.commands import answer, done, run

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
LIGHT = (["inspect", str(CAT), str(PIZZA)], ["methods"], ["--help"])  # commands
AFTERWARDS = f"""
import sys
from merging.__main__ import main
try:
    main(sys.argv[1:])
finally:
    names = {(*HEAVY, "numpy", "huggingface_hub")!r}
    print([name for name in names if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("merged") / "both.safetensors"
    few = ("--samples", 1, "--targets", "cross-attention")
    return out, answer("merge", CAT, f"{PIZZA}@0.8", "--base", "mini", *few, "--out", out)


def test_inspect_says_what_the_files_are() -> None:
    found = answer("inspect", CAT, PIZZA)["files"]
    assert [entry["trigger"] for entry in found] == ["sks cat", "vxz pizza"]
    assert [entry["base"] for entry in found] == ["mini", "mini"]
    assert "trigger  sks cat" in run("inspect", CAT).stdout


@pytest.mark.parametrize("words", LIGHT, ids=lambda words: words[0])
def test_what_needs_no_weights_imports_nothing_heavy(words: list[str]) -> None:
    command = [sys.executable, "-c", AFTERWARDS, *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.strip()) == (0, "[]")
    assert ended.stdout


@pytest.mark.parametrize("words", LIGHT, ids=lambda words: words[0])
def test_a_reader_may_go_as_head_does(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    # unbuffered, argparse itself swallows that nobody reads its help
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "merging", *words]
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
def test_merge_writes_one_adapter_that_carries_its_recipe(merged: tuple[Path, dict]) -> None:
    out, said = merged
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    (entry,) = answer("inspect", out)["files"]
    assert entry["sha256"] == said["sha256"]
    assert said["verified"]["modules"] == len(formats.read(out).layers)
    assert said["verified"]["error"] < 1e-3
    assert said["verified"]["sentence"].startswith("read back: ")
    assert entry["trigger"] == "sks cat, vxz pizza"
    assert [source["strength"] for source in entry["recipe"]["sources"]] == [1.0, 0.8]
    sizes = {name: formats.read(path).layers for name, path in (("a", CAT), ("b", PIZZA))}
    for name, layer in formats.read(out).layers.items():
        assert layer.rank <= sum(own[name].rank for own in sizes.values() if name in own)


@pytest.mark.slow
def test_same_request_same_bytes_and_a_recipe_replays(
    merged: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another process, too: this one."""
    out, _ = merged
    saved = tmp_path / "recipe.json"
    saved.write_text(json.dumps(answer("inspect", out)["files"][0]["recipe"]), "utf-8")
    again = tmp_path / out.name
    done(capsys, "merge", PIZZA, CAT, "--base", "mini", "--recipe", saved, "--out", again)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.slow
def test_merge_to_diffusers_in_full_precision_is_the_same_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("kohya.safetensors", "diffusers.safetensors")]
    for path in paths:
        done(
            capsys, "merge", CAT, PIZZA, "--method", "sum", "--out", path,
            "--format", path.stem, "--dtype", "fp32",
        )  # fmt: skip
    one, two = (formats.read(path) for path in paths)
    assert one.family != two.family
    assert distance(one, two) < 1e-4


@pytest.mark.slow
def test_render_draws_one_png_per_prompt(
    merged: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = done(
        capsys, "render", "--base", "mini", "--adapter", f"{merged[0]}@0.9", "--prompt",
        "a sks cat", "a vxz pizza", "--seed", 3, "--steps", 2, "--out", tmp_path / "pictures",
    )  # fmt: skip
    assert [picture["prompt"] for picture in said["pictures"]] == ["a sks cat", "a vxz pizza"]
    for picture in said["pictures"]:
        with Image.open(picture["path"]) as image:
            assert image.size == (128, 128)
            assert "<lora:both:0.9>" in image.info["parameters"]


def test_methods_lists_the_table() -> None:
    assert list(answer("methods")["methods"]) == list(METHODS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "nowhere.safetensors"], "nowhere.safetensors"),
        (["inspect", __file__], "test_main.py"),
        (["merge", CAT, CAT, "--out", "x.safetensors"], "the same file is listed twice"),
        (["merge", CAT, PIZZA, "--trigger", "a", "--out", "x.safetensors"], "give one per file"),
        (["merge", CAT, "--base", "nowhere", "--out", "x.safetensors"], "nowhere"),
        (
            ["merge", CAT, PIZZA, "--samples", "0", "--out", "x.safetensors"],
            "samples must be a whole number from 1 to 1000",
        ),
        (["render", "--prompt", "a " * 500, "--out", "x"], "shorten it"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    words: list, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [tmp_path / word if word in ("x", "x.safetensors") else word for word in words]
    assert main([*map(str, words), "--json"]) == 2
    told, errors = capsys.readouterr()
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert sentence in line
    assert not list(tmp_path.iterdir())
    assert json.loads(told) == {"error": line.removeprefix("error: ")}


def test_bad_input_ends_the_process_without_a_traceback() -> None:
    ended = run("inspect", "nowhere.safetensors")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr


@pytest.mark.slow
def test_what_draws_is_not_imported_for_a_merge_without_a_base() -> None:
    """diffusers and transformers take longer to import than a sum takes."""
    code = "import sys, merging.cli.merge; print({'diffusers', 'transformers'} & {*sys.modules})"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert output.stdout.strip() == "set()"


def test_a_sum_needs_no_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files for Stable Diffusion 1.5 are summed where no base is to be had."""
    layers = {
        name: (torch.ones(shape[0], 1), torch.ones(1, shape[1]))
        for name, shape in formats.table("sd15").shapes.items()
        if name.endswith("attn2.to_k")
    }
    files = []
    for name in ("one", "two"):
        adapter = Adapter(name, {k: LoraLayer(*v, alpha=1.0) for k, v in layers.items()}, "sd15")
        files.append(tmp_path / f"{name}.safetensors")
        formats.write_kohya(adapter, files[-1], torch.float32, {"note": name})
    for base in ([], ["--base", "sd15"], ["--base", "nowhere"]):
        out = tmp_path / "out.safetensors"
        done(capsys, "merge", *files, "--method", "sum", *base, "--dtype", "fp32", "--out", out)
        merged = formats.read(out)
        assert merged.base == "sd15"
        two = torch.tensor(2.0)
        assert all((layer.delta() - two).abs().max() < 1e-3 for layer in merged.layers.values())
        assert done(capsys, "replay", out, *files, "--out", tmp_path / "again.safetensors")["same"]
        both = done(
            capsys, "batch", *files, "--methods", "sum", *base, "--strengths", "0.5,1", "1",
            "--out", tmp_path / "all.zip",
        )  # fmt: skip
        assert [row["problem"] for row in both["merges"]] == ["", ""]
