"""Our files as A1111, Forge, ComfyUI, InvokeAI, sd-scripts and diffusers find them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.formats import read, table, write_full, write_kohya
from merging.formats.compatibility import PROGRAMS, original_name
from merging.formats.key_names import ldm
from merging.formats.layer_tables import flat
from tests.loaders.facts import COUNTS, KINDS, WIDTHS_OF_INVOKEAI, stems

SUFFIXES = ("alpha", "lora_down.weight", "lora_up.weight")
MARKER = "lora_te_text_model_encoder_layers_0_self_attn_out_proj"  # a layer of zeros
DIFFERENCES = ("attn1 alone", "MLP alone", "resnets alone")


def adapter(modules: list[str]) -> Adapter:
    """One random LoRA of rank one for these modules, each with an alpha of its own."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for n, name in enumerate(modules):
        rows, columns = flat(table("sd15").shapes[name])
        up = 0.1 * torch.randn(rows, 1, generator=generator)
        down = 0.1 * torch.randn(1, columns, generator=generator)
        layers[name] = LoraLayer(up, down, 1.0 + n % 3)
    return Adapter("merged", layers, "sd15")


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in the file's order, and the header."""
    with safe_open(path, "pt") as stream:
        header = stream.metadata()
    length = int.from_bytes(path.read_bytes()[:8], "little")
    order = list(json.loads(path.read_bytes()[8 : 8 + length]))
    with safe_open(path, "pt") as stream:
        tensors = {key: stream.get_tensor(key) for key in order if key != "__metadata__"}
    return tensors, header


def effect(tensors: dict[str, Tensor], stem: str) -> tuple[Tensor, Tensor]:
    """What every program adds to a weight, as two factors: (alpha / rank) · up, down."""
    down = tensors[f"{stem}.lora_down.weight"].double().flatten(1)
    up = tensors[f"{stem}.lora_up.weight"].double().flatten(1)
    return tensors[f"{stem}.alpha"].item() / len(down) * up, down


def distance(found: tuple[Tensor, Tensor], layer: LoraLayer) -> float:
    """‖found − meant‖ / ‖meant‖, by the Gram matrices of the factors."""
    up = torch.cat([found[0], -layer.scale * layer.up.double()], dim=1)
    down = torch.cat([found[1], layer.down.double()])
    square = ((up.T @ up) * (down @ down.T)).sum().clamp_min(0)
    meant = layer.scale * layer.up.double().norm() * layer.down.double().norm()
    return float(square.sqrt() / meant)


def width_for_invokeai(tensors: dict[str, Tensor]) -> int | None:
    """Its probe: the input width of the first layer that it knows to read the text, or the time."""
    for key, value in tensors.items():
        stem, _, end = key.partition(".")
        text = "_self_attn_" in stem if stem.startswith("lora_te_") else "_attn2_to_" in stem
        known = (text and not stem.endswith(("_to_q", "_to_out_0"))) or "time_emb_proj" in stem
        if known and end in ("lora_down.weight", "diff"):
            return value.shape[1]
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_the_programs_find_every_layer(tmp_path: Path, kind: str) -> None:
    names = stems(kind)
    assert len(names) == COUNTS[kind]
    assert set(names.values()) <= table("sd15").shapes.keys()
    merged = adapter(list(names.values()))
    write_kohya(merged, tmp_path / "a.safetensors", torch.float16)
    tensors, _ = contents(tmp_path / "a.safetensors")
    extra = {stem for key in tensors if (stem := key.partition(".")[0]) not in names}
    assert extra <= {MARKER}
    assert tensors.keys() == {f"{stem}.{end}" for stem in {*names, *extra} for end in SUFFIXES}
    assert not any(effect(tensors, stem)[0].any() for stem in extra)
    for stem, module in names.items():
        assert distance(effect(tensors, stem), merged.layers[module]) < 1e-3, stem
    width = width_for_invokeai(tensors)
    assert width and WIDTHS_OF_INVOKEAI[width] == "Stable Diffusion 1"


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_differences_are_found_too(tmp_path: Path, kind: str) -> None:
    """One layer alone: the hardest for a program that guesses the base from it."""
    stem, module = next((s, m) for s, m in stems(kind).items() if m.endswith(("to_q", "fc1", "j")))
    merged = adapter([module])
    write_full(merged, tmp_path / "a.safetensors", torch.float32)
    tensors, _ = contents(tmp_path / "a.safetensors")
    assert tensors.keys() <= {f"{stem}.diff", f"{MARKER}.diff"}
    change = merged.layers[module].delta().view(tensors[f"{stem}.diff"].shape)
    torch.testing.assert_close(tensors[f"{stem}.diff"], change)
    assert width_for_invokeai(tensors) == 768
    assert read(tmp_path / "a.safetensors").base == "sd15"


@pytest.mark.parametrize("kind", KINDS)
def test_our_rules_of_the_programs_are_the_facts(kind: str) -> None:
    unet, _ = KINDS[kind]
    modules = ldm.modules(table("sd15"))
    for name, place in unet.items():
        assert modules[place] == f"unet.{name}"
        assert original_name(f"lora_unet_{name.replace('.', '_')}") == place.replace(".", "_")
    for program in PROGRAMS:
        found = program.names(table("sd15"))
        assert all(found[stem] == module for stem, module in stems(kind).items()), program.title
