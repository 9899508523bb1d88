"""Written files: the changes we meant, keys that every loader knows, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.formats import Written, read, write_diffusers, write_full, write_kohya
from merging.formats.serialise import serialise
from tests.merging.formats.handmade import (
    CONV,
    PROJ_IN,
    Q_PROJ,
    SAMPLES,
    TO_K,
    adapter,
    factors,
    kohya,
    metadata,
    saved,
)

ROOT = Path(__file__).parents[3]
WRITERS = (write_kohya, write_diffusers)
# ‖read back − meant‖ / ‖meant‖ per layer; what rounding two factors costs at most
LIMITS = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-6}
Writer = Callable[..., Written]


def body(path: Path) -> bytes:
    """The tensors' bytes, without the header."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def error(found: LoraLayer, expected: LoraLayer) -> float:
    """‖found − expected‖ / ‖expected‖ of two changes."""
    difference = found.delta().double() - expected.delta().double()
    return float(difference.norm() / expected.delta().double().norm())


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("dtype", "limit"), list(LIMITS.items()))
def test_what_is_written_is_read_back(
    tmp_path: Path, write: Writer, dtype: torch.dtype, limit: float
) -> None:
    expected = adapter()
    written = write(expected, tmp_path / "merged one.safetensors", dtype)
    found = read(tmp_path / "merged one.safetensors")
    assert found.sha256 == written.sha256
    assert (found.name, found.base, found.trigger) == ("merged one", "mini", "sks cat")
    assert found.layers.keys() == expected.layers.keys()
    assert max(error(found.layers[name], expected.layers[name]) for name in expected.layers) < limit
    assert found.warnings == ()


@pytest.mark.parametrize("write", WRITERS)
def test_half_precision_files_come_through_bit_for_bit(tmp_path: Path, write: Writer) -> None:
    """alpha = rank and fp16 in: the products of what is written are those of what was read."""
    parts = {sample: factors(sample) for sample in SAMPLES}
    source = read(saved(tmp_path / "a.safetensors", kohya(parts, dict.fromkeys(SAMPLES, 4.0))))
    write(source, tmp_path / "b.safetensors", torch.float16)
    again = read(tmp_path / "b.safetensors")
    for name, layer in source.layers.items():
        assert torch.equal(again.layers[name].delta(), layer.delta())
    write(again, tmp_path / "c.safetensors", torch.float16)
    assert body(tmp_path / "b.safetensors") == body(tmp_path / "c.safetensors")


def test_kohya_keys_shapes_and_the_one_alpha(tmp_path: Path) -> None:
    expected = adapter()
    write_kohya(expected, tmp_path / "a.safetensors", torch.float16)
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    modules = {key.partition(".")[0] for key in tensors}
    assert len(tensors) == 3 * len(modules) == 3 * len(expected.layers)
    assert all(module.startswith(("lora_unet_", "lora_te_")) for module in modules)
    alphas = {tensors[f"{module}.alpha"].item() for module in modules}
    assert alphas == {5.0}  # the rank that most layers have
    for sample in (CONV, PROJ_IN, TO_K, Q_PROJ):
        rank = expected.layers[sample.name].rank
        up, down = (tensors[f"{sample.kohya}.lora_{half}.weight"] for half in ("up", "down"))
        assert down.shape == (rank, *sample.shape[1:])
        assert up.shape == (sample.shape[0], rank, *(1 for _ in sample.shape[2:]))
        assert up.dtype == down.dtype == torch.float16


def test_kohya_header(tmp_path: Path) -> None:
    extra = {
        "iteris.recipe": '{"a": 1}',
        "modelspec.date": "2026-11-22",
        "modelspec.title": "Cat and mug",
        "ss_network_dim": "a lie",
        "sshs_model_hash": "a lie",
        "lora_adapter_metadata": "{}",
    }
    path = tmp_path / "a.safetensors"
    write_kohya(adapter(base="sd15", every=40), path, torch.float16, extra)
    found = metadata(path)
    assert found == {
        "iteris.recipe": '{"a": 1}',
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.date": "2026-11-22",
        "modelspec.hash_sha256": found["modelspec.hash_sha256"],
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "512x512",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": "Cat and mug",
        "modelspec.trigger_phrase": "sks cat",
        "ss_base_model_version": "sd_v1",
        "ss_network_alpha": "5",
        "ss_network_args": found["ss_network_args"],
        "ss_network_dim": "Dynamic",
        "ss_network_module": "networks.lora",
        "ss_output_name": "merged one",
        "ss_v2": "False",
        "sshs_legacy_hash": found["sshs_legacy_hash"],
        "sshs_model_hash": found["sshs_model_hash"],
    }


@pytest.mark.parametrize("write", [*WRITERS, write_full])
def test_hashes_are_those_of_sd_scripts_and_modelspec(tmp_path: Path, write: Writer) -> None:
    """Of the tensors, and of 64 KiB after the first MiB of the file as safetensors writes it with
    ss_ alone."""
    path = tmp_path / "a.safetensors"
    write(adapter(), path, torch.float32, {"modelspec.hash_sha256": "a lie"})
    digest = hashlib.sha256(body(path)).hexdigest()
    assert metadata(path)["sshs_model_hash"] == digest
    assert metadata(path)["modelspec.hash_sha256"] == f"0x{digest}"
    training = {key: value for key, value in metadata(path).items() if key.startswith("ss_")}
    content = safetensors.torch.save(safetensors.torch.load_file(path), training)
    assert len(content) > 0x110000
    expected = hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    assert metadata(path)["sshs_legacy_hash"] == expected


def test_uniform_rank_is_named_in_the_header(tmp_path: Path) -> None:
    layer = LoraLayer(torch.ones(64, 6), torch.ones(6, 128), alpha=1.0)
    write_kohya(Adapter("a", {TO_K.name: layer}), tmp_path / "a.safetensors", torch.float16)
    found = metadata(tmp_path / "a.safetensors")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("6", "6")
    assert "ss_network_args" not in found


def test_diffusers_file_has_peft_keys_and_settings(tmp_path: Path) -> None:
    expected = adapter()
    path = tmp_path / "a.safetensors"
    write_diffusers(expected, path, torch.float16, {"iteris.recipe": "{}"})
    tensors = safetensors.torch.load_file(path)
    ends = ("lora_A.weight", "lora_B.weight")
    assert tensors.keys() == {f"{name}.{end}" for name in expected.layers for end in ends}
    found = metadata(path)
    assert (found["format"], found["iteris.recipe"]) == ("pt", "{}")
    settings = json.loads(found["lora_adapter_metadata"])
    assert settings["unet.r"] == settings["unet.lora_alpha"] == 5
    ranks = settings["unet.rank_pattern"]
    assert ranks == settings["unet.alpha_pattern"]
    for name, layer in expected.layers.items():
        part, _, module = name.partition(".")
        if part == "unet":
            assert ranks.get(module, 5) == layer.rank


@pytest.mark.slow
def test_same_adapter_same_bytes_in_another_process(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    write_kohya(adapter(every=20), source, torch.float32)
    program = (
        "import sys, torch; from pathlib import Path; from merging import formats\n"
        "for write in (formats.write_kohya, formats.write_diffusers):\n"
        "    target = Path(sys.argv[2], write.__name__)\n"
        "    write(formats.read(Path(sys.argv[1])), target, torch.float16, {'b': 'c', 'a': 'd'})"
    )
    (tmp_path / "other").mkdir()
    arguments = [str(source), str(tmp_path / "other")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=ROOT)
    for write in WRITERS:
        path = tmp_path / write.__name__
        write(read(source), path, torch.float16, {"a": "d", "b": "c"})
        assert path.read_bytes() == (tmp_path / "other" / write.__name__).read_bytes()


def test_serialised_is_what_the_library_reads() -> None:
    tensors = {
        "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "a": torch.ones(3, dtype=torch.bfloat16),
        "c": torch.tensor(2.0),
        "d": torch.arange(6.0).half().reshape(2, 3).T,  # not contiguous
    }
    found = safetensors.torch.load(b"".join(serialise(tensors, {"größe": "ß"})))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("write", WRITERS)
def test_zero_layers_are_left_out(tmp_path: Path, write: Writer) -> None:
    source = adapter(every=7)
    first = next(iter(source.layers))
    zero = LoraLayer(torch.zeros_like(source.layers[first].up), source.layers[first].down, 1.0)
    write(Adapter("a", {**source.layers, first: zero}), tmp_path / "a.safetensors", torch.float16)
    found = read(tmp_path / "a.safetensors")
    assert found.layers.keys() == source.layers.keys() - {first}
    with pytest.raises(MergeError, match=r"^a changes nothing"):
        write(Adapter("a", {first: zero}), tmp_path / "b.safetensors", torch.float16)


@pytest.mark.parametrize(("up", "down"), [(1e4, 1e-4), (1e-7, 10.0), (3e5, 1e-6), (1e-9, 1e6)])
def test_unbalanced_factors_survive_half_precision(tmp_path: Path, up: float, down: float) -> None:
    base = factors(TO_K, dtype=torch.float32)
    layer = LoraLayer(up * base.up, down * base.down, alpha=4.0)
    write_kohya(Adapter("a", {TO_K.name: layer}), tmp_path / "a.safetensors", torch.float16)
    found = read(tmp_path / "a.safetensors").layers[TO_K.name]
    assert error(found, layer) < 1e-3


@pytest.mark.parametrize("scale", [1e6, 1e-8, float("nan"), float("inf")])
def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(MergeError, match=r"^merged one: layer \S+ does not fit into float16"):
        write_kohya(adapter(scale, every=20), path, torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_a_negligible_layer_does_not_stop_the_others(tmp_path: Path) -> None:
    source = adapter(every=7)
    first = next(iter(source.layers))
    faint = LoraLayer(1e-9 * source.layers[first].up, 1e-9 * source.layers[first].down, 1.0)
    layers = {**source.layers, first: faint}
    write_kohya(Adapter("a", layers), tmp_path / "a.safetensors", torch.float16)
    assert read(tmp_path / "a.safetensors").layers.keys() == source.layers.keys() - {first}


def test_layers_of_no_base_are_refused(tmp_path: Path) -> None:
    layer = LoraLayer(torch.ones(3, 1), torch.ones(1, 3), 1.0)
    with pytest.raises(MergeError, match=r"^a: layer unet\.strange fits no base model"):
        write_kohya(Adapter("a", {"unet.strange": layer}), tmp_path / "a", torch.float16)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the old one")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MergeError, match="No space left on device"):
        write_kohya(adapter(every=20), path, torch.float16)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match=r"none.a\.safetensors cannot be written \(No such file"):
        write_kohya(adapter(every=20), tmp_path / "none" / "a.safetensors", torch.float16)


def test_writing_over_a_file_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the old one")
    write_kohya(adapter(every=20), path, torch.float16)
    assert read(path).base == "mini"
    assert list(tmp_path.iterdir()) == [path]
