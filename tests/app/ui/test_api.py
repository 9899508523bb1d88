"""The public endpoints, called as a program of another person would."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safetensors.torch import save_file

from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.ui.api.arguments import PER_FILE
from app.ui.api.merge import merge_arguments, merge_endpoint
from merging import formats
from merging.analysis.summary import summary
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.engine import merge
from merging.export.save import RecipeBase, save
from merging.lora_file import lora_input
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from tests.conftest import ROOT

QUICK: dict[str, Any] = {"samples": 2, "targets": "cross-attention"}


def test_only_these_endpoints_are_offered(client: Client) -> None:
    """A new public endpoint is a decision, not an accident."""
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/merge",
        "/render",
        "/inspect",
        "/methods",
        "/suggest",
        "/tune",
    }


def test_merge_gives_the_librarys_own_bytes(
    client: Client, base: Base, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    files = [handle_file(path) for path in pair]
    job = client.submit(
        files=files, strengths=[1.0, 0.8], triggers=["", "vxz pizza"], **QUICK, api_name="/merge"
    )
    file, report = job.result(timeout=240)
    assert any(state and "doing" in state for _, state in job.outputs()), "there is progress"

    adapters = [formats.read(path) for path in pair]
    sources = (Source(adapters[0], 1.0, "sks cat"), Source(adapters[1], 0.8, "vxz pizza"))
    request = MergeRequest(sources, **QUICK)
    result = merge(request, activations(base))
    own = tmp_path / Path(file).name
    save(result, own, merged_on=RecipeBase("mini", base.fingerprint))
    assert Path(file).read_bytes() == own.read_bytes()
    assert report["recipe"]["sources"][1]["strength"] == 0.8
    assert len(report["layers"]) == len(result.adapter.layers)


# Every option of a merge, none at its default.
UNUSUAL: dict[str, Any] = {
    "base": "mini",
    "precision": "fp32",
    "method": "iteris",
    "targets": "cross-attention",
    "samples": 2,
    "rows": 40,
    "teacher": "composed",
    "composed_weight": 2.5,
    "preserve": 0.2,
    "fallback": "mean",
    "ridge": 0.01,
    "cross_ridge": 0.02,
    "mode": "delta+residual",
    "weighting": "delta",
    "padding": "first-eos",
    "tokens": "concept",
    "rounds": 2,
    "clip_skip": 2,
    "rank": "6",
    "seed": 11,
}


def test_every_option_of_a_merge_can_be_called(
    client: Client, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """All of an order's fields are arguments; what they do is what the library does with them."""
    file, report = client.predict(
        files=[handle_file(path) for path in pair],
        strengths=[0.9, 0.8],
        text_encoder=[0.5, 0.8],
        unet=[0.9, 0.4],
        blocks=["", "MIDD"],
        own_prompts=["a sks cat\na sks cat on a mat", "a vxz pizza"],
        prompts="a sks cat and a vxz pizza",
        dtype="fp32",
        **UNUSUAL,
        api_name="/merge",
    )
    base = load_base("mini", "cpu", "fp32")
    sources = tuple(
        replace(
            lora_input(path, *strengths).source_of(formats.read(path)),
            trigger=trigger,
            prompts=lines,
        )
        for path, strengths, trigger, lines in (
            (pair[0], (0.9, 0.5, 0.9), "sks cat", ("a sks cat", "a sks cat on a mat")),
            (pair[1], (0.8, 0.8, 0.4, "MIDD"), "vxz pizza", ("a vxz pizza",)),
        )
    )
    given = {key: value for key, value in UNUSUAL.items() if key not in ("base", "precision")}
    request = MergeRequest(sources, **given | {"rank": 6})
    result = merge(request, activations(base))
    own = tmp_path / Path(file).name
    save(result, own, dtype="fp32", merged_on=RecipeBase("mini", base.fingerprint, "fp32"))
    assert Path(file).read_bytes() == own.read_bytes()
    assert report["recipe"]["base_precision"] == "fp32"


def test_textual_inversions_go_with_the_files(
    client: Client, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    word = tmp_path / "own.safetensors"
    save_file({"emb_params": torch.ones(1, 128)}, word)
    files = [handle_file(path) for path in (pair[0], word, pair[1])]
    given = {"files": files, "triggers": ["", "zz", ""]}
    _, report = client.predict(**given, method="sum", api_name="/merge")
    (kept,) = report["recipe"]["embeddings"]
    assert (kept["word"], len(report["recipe"]["sources"])) == ("zz", 2)
    drawn = [
        client.predict(prompt="a zz", files=listed, triggers=called, steps=1, api_name="/render")[0]
        for listed, called in ((files, ["", "zz", ""]), (files[::2], ["", ""]))
    ]
    assert Image.open(drawn[0]).tobytes() != Image.open(drawn[1]).tobytes()


def test_no_option_is_forgotten(client: Client, studio: Studio) -> None:
    """An argument, a widget and a line of help for every field of an order."""
    fields = {field.name for field in dataclasses.fields(MergeOrder)} - {"picks", "words"}
    with gr.Blocks():
        arguments = merge_arguments(studio.settings)
    endpoint = merge_endpoint(studio, arguments)
    parameters = inspect.signature(endpoint).parameters
    assert list(arguments) == list(parameters)
    assert fields == arguments.keys() - {"files", *PER_FILE} - {"file_format"}
    assert {argument.field for argument in PER_FILE.values()} == {
        field.name for field in dataclasses.fields(SelectedFile)
    } - {"path", "name", "on", "is_word", "origin", "references"}
    assert all(f"{name}: " in str(endpoint.__doc__) for name in arguments)
    for name in fields:  # what a caller leaves out is what an order leaves out
        default = getattr(MergeOrder(()), name)
        widget: Any = arguments[name].widget
        assert parameters[name].default == default
        assert default is None or widget.value in (default, str(default))
    public = client.view_api(return_format="dict")["named_endpoints"]["/merge"]["parameters"]
    assert {argument["parameter_name"] for argument in public} == arguments.keys()
    assert not any(argument["python_type"]["type"] == "Any" for argument in public)


def test_merge_writes_the_diffusers_form_too(client: Client, pair: tuple[Path, Path]) -> None:
    file, _ = client.predict(
        files=[handle_file(path) for path in pair],
        method="sum",
        file_format="diffusers",
        dtype="fp32",
        api_name="/merge",
    )
    found = formats.read(Path(file))
    assert "kohya" not in found.family.lower()
    assert found.trigger == "sks cat, vxz pizza"


def test_render_draws_what_the_library_draws(
    client: Client, base: Base, pair: tuple[Path, Path]
) -> None:
    file, _ = client.predict(
        prompt="a photo of a sks cat",
        files=[handle_file(pair[0])],
        strengths=[0.7],
        seed=5,
        steps=3,
        api_name="/render",
    )
    adapters = [(formats.read(pair[0]), 0.7)]
    (own,) = render(base, ["a photo of a sks cat"], [5], adapters=adapters, steps=3)
    assert Image.open(file).tobytes() == own.tobytes()
    assert Image.open(file).info["parameters"] == own.info["parameters"]


def test_render_is_gated_and_sampled_as_the_library_does(
    client: Client, base: Base, pair: tuple[Path, Path]
) -> None:
    prompt = "a photo of a sks cat and a vxz pizza"
    file, _ = client.predict(
        prompt=prompt,
        files=[handle_file(path) for path in pair],
        triggers=["sks cat", "vxz pizza"],
        negative="a dog",
        sampler="Euler",
        compose="gated",
        size="128x160",
        steps=3,
        api_name="/render",
    )
    adapters = [(formats.read(path), 1.0) for path in pair]
    (own,) = render(
        base, [prompt], [0], adapters=adapters, steps=3, negative="a dog", sampler="Euler",
        compose="gated", size="128x160",
    )  # fmt: skip
    assert Image.open(file).tobytes() == own.tobytes()


def test_inspect_and_methods_answer_as_the_command_line_does(
    client: Client, pair: tuple[Path, Path], bad_files: dict[str, Path]
) -> None:
    told = client.predict(file=handle_file(pair[0]), api_name="/inspect")
    assert told == json.loads(json.dumps(summary(pair[0])))
    with pytest.raises(AppError, match="not a safetensors file"):
        client.predict(file=handle_file(bad_files["text"]), api_name="/inspect")
    assert list(client.predict(api_name="/methods")) == list(METHODS)


def test_suggest_is_refused_where_no_library_is_kept(client: Client) -> None:
    with pytest.raises(AppError, match="keeps no library"):
        client.predict(prompt="a sks cat", api_name="/suggest")


def test_the_program_of_the_docs_runs(
    url: str, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands there, but for the address and with fewer prompts."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    program = text.split("```python\n")[1].split("```")[0]
    for name, path in zip(("cat", "mug"), pair, strict=True):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes())
    program = program.replace("http://127.0.0.1:7860", url.rstrip("/"))
    program = program.replace('"zxq mug"', '"vxz pizza"').replace("samples=50", "samples=2")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(program, found)
    assert formats.read(Path(found["adapter"])).trigger == "sks cat, vxz pizza"
    assert Image.open(found["picture"]).size == (128, 128)


def test_render_needs_no_lora(client: Client) -> None:
    file, _ = client.predict(prompt="a photo of a dog", steps=2, api_name="/render")
    assert Image.open(file).size == (128, 128)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": [1.0]}, "list of 2 numbers"),
        ({"strengths": ["1", "2"]}, "list of 2 numbers"),
        ({"triggers": [1, 2]}, "list of 2 texts"),
        ({"rank": "0"}, "rank"),
        ({"method": "magic"}, "magic"),
        ({"samples": 100_000}, "100000"),
        ({"base": "sd15"}, "made for the embedded mini model"),
        ({"unet": [1.0]}, "unet must be a list of 2 numbers"),
        ({"own_prompts": ["a cat"]}, "own_prompts must be a list of 2 texts"),
        ({"blocks": ["MIDDLE", ""]}, "neither a preset"),
        ({"precision": "fp8"}, "fp8"),
    ],
)
def test_bad_calls_are_answered_in_one_sentence(
    client: Client, pair: tuple[Path, Path], change: dict[str, Any], words: str
) -> None:
    call = {"files": [handle_file(path) for path in pair], **QUICK, **change}
    with pytest.raises(AppError, match=words):
        client.predict(**call, api_name="/merge")


def test_bad_files_are_named(client: Client, bad_files: dict[str, Path]) -> None:
    files = [handle_file(bad_files["text"]), handle_file(bad_files["cut"])]
    with pytest.raises(AppError, match=r"text\.safetensors is not a safetensors file"):
        client.predict(files=files, api_name="/merge")
