"""Key lists of other programs: sample keys with the places that they have there, and how many.

The samples are written down from the programs' own behaviour: kohya's key, the module of the
original Stable Diffusion code that A1111 and ComfyUI put it on, diffusers' module.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import Written, read, table, write_diffusers, write_full, write_kohya, writer
from merging.formats.compatibility import PROGRAMS, original_name
from merging.formats.key_names import ldm
from merging.formats.layer_tables import flat
from merging.formats.match import best_match
from merging.formats.tensors import opened
from merging.formats.verify import verify_file
from tests.merging.formats.handmade import CONV, PROJ_IN, TO_K, factors, kohya, saved

TITLES = ("A1111", "Forge", "ComfyUI", "InvokeAI", "diffusers")
BY_TITLE = {program.title: program for program in PROGRAMS}
GOLDEN = """
lora_unet_conv_in | input_blocks_0_0 | conv_in
lora_unet_conv_out | out_2 | conv_out
lora_unet_time_embedding_linear_1 | time_embed_0 | time_embedding.linear_1
lora_unet_time_embedding_linear_2 | time_embed_2 | time_embedding.linear_2
lora_unet_down_blocks_0_attentions_0_proj_in | input_blocks_1_1_proj_in | down_blocks.0.attentions.0.proj_in
lora_unet_down_blocks_1_attentions_1_transformer_blocks_0_attn1_to_out_0 | input_blocks_5_1_transformer_blocks_0_attn1_to_out_0 | down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0
lora_unet_down_blocks_2_resnets_1_conv1 | input_blocks_8_0_in_layers_2 | down_blocks.2.resnets.1.conv1
lora_unet_down_blocks_1_resnets_0_conv_shortcut | input_blocks_4_0_skip_connection | down_blocks.1.resnets.0.conv_shortcut
lora_unet_down_blocks_2_downsamplers_0_conv | input_blocks_9_0_op | down_blocks.2.downsamplers.0.conv
lora_unet_down_blocks_3_resnets_1_time_emb_proj | input_blocks_11_0_emb_layers_1 | down_blocks.3.resnets.1.time_emb_proj
lora_unet_mid_block_resnets_0_conv2 | middle_block_0_out_layers_3 | mid_block.resnets.0.conv2
lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj | middle_block_1_transformer_blocks_0_ff_net_0_proj | mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj
lora_unet_mid_block_resnets_1_conv1 | middle_block_2_in_layers_2 | mid_block.resnets.1.conv1
lora_unet_up_blocks_0_resnets_2_conv1 | output_blocks_2_0_in_layers_2 | up_blocks.0.resnets.2.conv1
lora_unet_up_blocks_0_upsamplers_0_conv | output_blocks_2_1_conv | up_blocks.0.upsamplers.0.conv
lora_unet_up_blocks_1_upsamplers_0_conv | output_blocks_5_2_conv | up_blocks.1.upsamplers.0.conv
lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v | output_blocks_11_1_transformer_blocks_0_attn2_to_v | up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_v
lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2 | output_blocks_11_1_transformer_blocks_0_ff_net_2 | up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2
"""  # noqa: E501
ROWS = [tuple(cell.strip() for cell in line.split("|")) for line in GOLDEN.strip().splitlines()]
CLIP_ROWS = [
    (
        f"lora_te_text_model_encoder_layers_11_{name.replace('.', '_')}",
        f"text_model.encoder.layers.11.{name}",
    )
    for name in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
]


def adapter(base: str, every: int = 1) -> Adapter:
    """Layers of a base, of rank one."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for name, shape in list(table(base).shapes.items())[::every]:
        rows, columns = flat(shape)
        up = 0.1 * torch.randn(rows, 1, generator=generator)
        layers[name] = LoraLayer(up, 0.1 * torch.randn(1, columns, generator=generator), 1.0)
    return Adapter("merged", layers, base)


def keys(path: Path) -> dict[str, dict[str, str]]:
    """layer → role → key of a file."""
    with opened(path, path.name) as body:
        header = body.header
    return best_match(header, None, path.name).layers


@pytest.mark.parametrize(("name", "place", "module"), ROWS)
def test_golden_unet_keys(name: str, place: str, module: str) -> None:
    sd15 = table("sd15")
    assert original_name(name) == place
    modules = {key.replace(".", "_"): layer for key, layer in ldm.modules(sd15).items()}
    assert modules[place] == f"unet.{module}"
    for program in PROGRAMS:
        assert program.names(sd15)[name] == f"unet.{module}", program.title


@pytest.mark.parametrize(("name", "module"), CLIP_ROWS)
def test_golden_text_encoder_keys(name: str, module: str) -> None:
    for program in PROGRAMS:
        names = program.names(table("sd15"))
        assert names[name] == f"text_encoder.{module}", program.title
        assert name.replace("lora_te_", "lora_te1_") not in names


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_kohya_files_are_found_whole(tmp_path: Path, title: str) -> None:
    path = tmp_path / "a.safetensors"
    written = write_kohya(adapter("sd15"), path, torch.float16)
    assert len(BY_TITLE[title].loadable_layers(keys(path), table("sd15"))) == 354
    assert written.programs == TITLES


@pytest.mark.slow
def test_full_files_are_found_by_all_but_diffusers(tmp_path: Path) -> None:
    """Every eightieth layer of Stable Diffusion 1.5: all of them would be 2 GB."""
    some = adapter("sd15", every=80)
    written = write_full(some, tmp_path / "a.safetensors", torch.float16)
    assert written.programs == TITLES[:-1]
    assert {key for keys_ in keys(tmp_path / "a.safetensors").values() for key in keys_} == {"diff"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "unet", "text"),
    [("A1111", 0, 0), ("Forge", 154, 72), ("ComfyUI", 154, 72), ("InvokeAI", 0, 0),
     ("diffusers", 282, 72)],
)  # fmt: skip
def test_how_much_of_a_diffusers_file_is_found(
    tmp_path: Path, title: str, unet: int, text: int
) -> None:
    path = tmp_path / "a.safetensors"
    written = write_diffusers(adapter("sd15"), path, torch.float16)
    found = BY_TITLE[title].loadable_layers(keys(path), table("sd15"))
    assert sum(layer.startswith("unet.") for layer in found) == unet
    assert sum(layer.startswith("text_encoder.") for layer in found) == text
    assert written.programs == ("diffusers",)


def test_the_checks_are_described_in_a_sentence(tmp_path: Path) -> None:
    written = write_kohya(adapter("sd15", every=10), tmp_path / "a.safetensors", torch.float16)
    assert isinstance(written, Written)
    assert written.sentence.startswith("read back: 36 modules, largest error ")
    assert written.sentence.endswith("; keys fit A1111, Forge, ComfyUI, InvokeAI and diffusers")
    assert 0 < written.error < 1e-3
    assert written.layer in read(tmp_path / "a.safetensors").layers
    mini = write_diffusers(adapter("mini", every=10), tmp_path / "a.safetensors", torch.float32)
    assert mini.sentence.endswith("; keys fit diffusers, for the embedded mini model only")
    assert mini.error < 1e-6
    assert mini.as_dict()["sentence"] == mini.sentence


def test_a_file_of_two_alphas_does_not_fit_diffusers(tmp_path: Path) -> None:
    """It uses one alpha for all layers; the other programs read them all."""
    parts = {sample: factors(sample) for sample in (TO_K, CONV)}
    path = saved(tmp_path / "a.safetensors", kohya(parts, {TO_K: 2.0, CONV: 4.0}))
    found = verify_file(path, path.name, read(path), table("mini"), ())
    assert found.programs == TITLES[:-1]


def test_flat_factors_of_a_convolution_do_not_fit_diffusers(tmp_path: Path) -> None:
    tensors = kohya({PROJ_IN: factors(PROJ_IN)}, {PROJ_IN: 2.0})
    tensors = {key: value.flatten(1) if value.ndim else value for key, value in tensors.items()}
    path = saved(tmp_path / "a.safetensors", tensors)
    with pytest.raises(MergeError, match=f"diffusers would not find layer {PROJ_IN.name}"):
        verify_file(path, path.name, read(path), table("mini"), ("diffusers",))


def without(found: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in found.items() if part not in key}


SPOILED = {
    "a missing layer": lambda found: without(found, "attn2_to_k"),
    "an alpha changed": lambda found: found | {f"{TO_K.kohya}.alpha": torch.tensor(2.0)},
    "values changed": lambda found: (
        found | {f"{TO_K.kohya}.lora_up.weight": 1.1 * found[f"{TO_K.kohya}.lora_up.weight"]}
    ),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_fails_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, there: bool
) -> None:
    """A file that was there before stays."""
    path = tmp_path / "a.safetensors"
    if there:
        path.write_bytes(b"before")
    expected = Adapter("a", {s.name: adapter("mini").layers[s.name] for s in (TO_K, CONV)}, "mini")
    genuine = writer.serialise_with_hashes
    monkeypatch.setattr(
        writer,
        "serialise_with_hashes",
        lambda tensors, header: genuine(SPOILED[how](tensors), header),
    )
    with pytest.raises(MergeError, match=rf"a\.safetensors was not saved: .*layer {TO_K.name} is"):
        write_kohya(expected, path, torch.float16)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"] * there


def test_factors_that_nearly_cancel_are_no_failure(tmp_path: Path) -> None:
    """Rounding them costs much of the sum; the file is written, with its error in the check."""
    own = adapter("mini").layers[TO_K.name]
    up, down = torch.cat([own.up, -0.999 * own.up], dim=1), torch.cat([own.down, own.down])
    expected = Adapter("a", {TO_K.name: LoraLayer(up, down, 2.0)}, "mini")
    written = write_kohya(expected, tmp_path / "a.safetensors", torch.float16)
    assert 0.05 < written.error < 0.5
    exact = write_kohya(expected, tmp_path / "a.safetensors", torch.float32)
    assert exact.error < 1e-4
