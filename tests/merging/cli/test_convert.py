"""convert and replay: one family to another, and the same bytes from the recipe in the file."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging import formats
from merging.__main__ import main
from merging.diffusion.base import Base
from merging.io.files import RECIPE_KEY
from tests.conftest import SHELF, distance
from tests.merging.cli.commands import done, refused
from tests.merging.formats.families import CASES
from tests.merging.formats.handmade import TIME, TO_K, factors, metadata, saved

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "dtype"), [("kohya", "fp16"), ("diffusers", "fp32")])
def test_a_merge_is_replayed_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, dtype: str
) -> None:
    """By content: the inputs come in another order, one under another name, beside a stranger."""
    renamed = shutil.copy(CAT, tmp_path / "renamed.safetensors")
    other = next(file for file in SHELF.values() if file not in (CAT, PIZZA))
    first, second = tmp_path / "both.safetensors", tmp_path / "again" / "both.safetensors"
    second.parent.mkdir()
    done(
        capsys, "merge", CAT, f"{PIZZA}@0.8", "--samples", 1, "--targets", "cross-attention",
        "--format", form, "--dtype", dtype, "--seed", 3, "--out", first,
    )  # fmt: skip
    said = done(capsys, "replay", first, other, PIZZA, renamed, "--out", second)
    assert second.read_bytes() == first.read_bytes()
    assert said["same"]
    assert said["verified"]["sentence"].startswith("read back: ")


def test_a_replay_says_whether_its_tensors_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, touched = tmp_path / "first.safetensors", tmp_path / "touched.safetensors"
    done(capsys, "merge", CAT, PIZZA, "--method", "sum", "--out", first)
    tensors = load_file(first)
    key = next(key for key in tensors if key.endswith("lora_up.weight"))
    save_file(tensors | {key: 0.5 * tensors[key]}, touched, metadata(first))
    for merged, said in ((first, "\nthe same tensors as"), (touched, "\nNOT the same tensors as")):
        again = tmp_path / "again.safetensors"  # its name is in its header
        assert main(["replay", str(merged), str(CAT), str(PIZZA), "--out", str(again)]) == 0
        assert f"{said} {merged}" in capsys.readouterr().out


@pytest.mark.slow
def test_what_cannot_be_replayed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged, out = tmp_path / "merged.safetensors", tmp_path / "out.safetensors"
    done(capsys, "merge", CAT, PIZZA, "--method", "sum", "--out", merged)
    assert "there is no recipe in it" in refused(capsys, "replay", CAT, PIZZA, "--out", out)
    words = refused(capsys, "replay", merged, CAT, "--out", out)
    assert f"The recipe needs {PIZZA.stem} (SHA-256 " in words
    tensors = load_file(merged)
    for recipe in ('{"sources": 3}', '{"sources": [{"sha256": []}]}', "[]"):
        save_file(tensors, merged, {RECIPE_KEY: recipe})
        assert "recipe" in refused(capsys, "replay", merged, CAT, "--out", out)
    assert not out.exists()


def names_and_forms() -> list[tuple[str, str]]:
    """Every case is converted, and every family to every form; all cases to all take minutes."""
    families = defaultdict[str, list[str]](list)
    for name, make in CASES.items():
        families[make().kind].append(name)
    return [
        (names[place % len(names)], form)
        for names in families.values()
        for place, form in zip(
            range(max(len(names), len(formats.WRITERS))), cycle(formats.WRITERS), strict=False
        )
    ]


@pytest.mark.slow(12)
@pytest.mark.parametrize(("name", "form"), names_and_forms())
def test_every_family_is_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, form: str
) -> None:
    """Those that depend on the base's weights are given them."""
    case = CASES[name]()
    tensors = {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()}
    source = saved(tmp_path / "in.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    needy = formats.overview(source).needs_base
    base = ("--base", "mini") if needy else ()
    said = done(capsys, "convert", source, out, "--format", form, "--dtype", "fp32", *base)
    assert said["verified"]["error"] < 1e-6
    assert form.title()[:4].lower() in formats.read(out).family
    run = needy and form != "full"  # with the base at hand diffusers' own loader is asked too
    assert said["verified"]["loaded"] is None or said["verified"]["loaded"] < 1e-6
    assert (said["verified"]["loaded"] is not None) == run
    if not needy:
        assert distance(formats.read(out), formats.read(source)) < 1e-6
        return
    sentence = refused(capsys, "convert", source, tmp_path / "none.safetensors")
    assert f"layer {case.sample.name} is written as {case.kind}" in sentence
    assert not (tmp_path / "none.safetensors").exists()


def test_what_no_layer_can_have_is_left_out_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {"lora_unet_nowhere.lora_up.weight": torch.ones(4, 4)}
    path = saved(tmp_path / "a.safetensors", load_file(CAT) | extra)
    out = tmp_path / "b.safetensors"
    for command in (["convert", path, out], ["merge", path, PIZZA, "--method=sum", "--out", out]):
        text = refused(capsys, *command)
        assert "1 keys that the embedded mini model does not have" in text
        assert "convert --leave-out" in text and not out.exists()
    said = done(capsys, "convert", path, out, "--leave-out")
    assert "Left out: 1 keys that" in said["notes"][0]
    assert distance(formats.read(out), formats.read(CAT)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.WRITERS)
def test_weights_that_peft_saves_whole_are_converted_and_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], base: Base, form: str
) -> None:
    """Their change is what the base's weight lacks; without it the file is refused."""
    before = base.weight(TIME.name)
    assert before is not None
    change = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    name, other = (f"base_model.model.{sample.name[5:]}" for sample in (TIME, TO_K))
    tensors = {f"{name}.weight": before + change}
    tensors |= {f"{other}.lora_A.weight": factors(TO_K).down}
    tensors |= {f"{other}.lora_B.weight": factors(TO_K).up}
    source = saved(tmp_path / "adapter_model.safetensors", tensors)
    out = tmp_path / "out.safetensors"
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    options = ("--format", form, "--dtype", "fp32", "--base", "mini")
    commands = (("convert", source, out), ("merge", source, "--method", "sum", "--out", out))
    for command in commands:
        done(capsys, *command, *options)
        found = formats.read(out).layers[TIME.name].delta()
        assert (found - change).norm() < 1e-5 * change.norm()
    assert "whole weight" in refused(capsys, "convert", source, tmp_path / "none.safetensors")


def test_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    said = done(capsys, "convert", CAT, there, "--format", "diffusers")
    assert said["verified"]["programs"] == ["diffusers"]
    assert main(["convert", str(there), str(back)]) == 0
    assert "keys fit A1111, Forge, ComfyUI, InvokeAI and diffusers" in capsys.readouterr().out
    cat = formats.read(CAT)
    assert distance(formats.read(back), cat) < 2e-3
    assert formats.read(back).trigger == cat.trigger
    assert {path.name for path in tmp_path.iterdir()} == {there.name, back.name}


def test_metadata_is_kept_but_for_what_is_true_of_the_old_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES["LoHa"]()
    tensors = {f"{case.sample.kohya}.{key}": value for key, value in case.tensors.items()}
    tags = json.dumps({"10_cat": {"sks cat": 20}})
    told = {"ss_tag_frequency": tags, "modelspec.author": "me", RECIPE_KEY: "{}"}
    stale = {
        "ss_network_module": "lycoris.locon_kohya",
        "ss_network_args": json.dumps({"algo": "loha"}),
        "ss_output_name": "old",
        "sshs_model_hash": "0" * 64,
        "ss_base_model_version": "sd_v1",
    }
    source = saved(tmp_path / "old.safetensors", tensors, told | stale)
    for form in formats.WRITERS:
        out = tmp_path / f"{form}.safetensors"
        done(capsys, "convert", source, out, "--format", form)
        found = metadata(out)
        assert {key: found[key] for key in told} == told
        assert found["modelspec.trigger_phrase"] == "sks cat"
        assert not [key for key, value in stale.items() if found.get(key) == value]
    assert metadata(tmp_path / "kohya.safetensors")["ss_output_name"] == "kohya"


@pytest.mark.parametrize(
    ("have", "want"),
    [(torch.float32, "F32"), (torch.bfloat16, "BF16"), (torch.float16, "F16"),
     (torch.float64, "F32")],
)  # fmt: skip
def test_the_type_of_the_file_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], have: torch.dtype, want: str
) -> None:
    case = CASES["LoRA"]()
    tensors = {f"{case.sample.kohya}.{key}": value.to(have) for key, value in case.tensors.items()}
    source = saved(tmp_path / "in.safetensors", tensors)
    done(capsys, "convert", source, tmp_path / "out.safetensors")
    assert dict(formats.overview(tmp_path / "out.safetensors").dtypes) == {want: 2}
