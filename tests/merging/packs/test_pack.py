"""pack and unpack: what comes back, merges from a pack, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging import formats
from merging.adapter import Adapter, VectorDelta
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.embeddings import token_width
from merging.io.files import PACK_KEY
from merging.packs.pack_file import LOSS, read_pack_header, read_packed
from merging.packs.packing import pack
from tests.conftest import SHELF, distance
from tests.merging.cli.commands import done, refused

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


@pytest.fixture
def three(random_adapter: Callable[..., Adapter]) -> list[Adapter]:
    """LoRAs of several ranks and layers, one with all that a file can hold."""
    one = random_adapter(1, rank=4, marks=("attn2.to_k", "attn1.to_out"))
    two = random_adapter(2, rank=2, marks=("attn2.to_k",))
    three = random_adapter(3, rank=8, marks=("attn1.to_out",))
    vector, length = next(
        item for item in formats.table("mini").vectors.items() if ".bias" in item[0]
    )
    module = vector.rpartition(".")[0]
    whole = replace(
        one,
        metadata={"ss_steps": "100", "note": "ä\n“"},
        warnings=("A warning.",),
        shifts={module: VectorDelta(bias=torch.arange(float(length)))},
        embeddings=(Embedding("word", torch.randn(2, token_width(formats.table("mini")))),),
    )
    return [whole, two, three]


def rewritten(path: Path, change: Callable[[dict], object]) -> None:
    """The pack with another header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        saved = json.loads(json.loads(stream.read(length))["__metadata__"][PACK_KEY])
    change(saved)
    save_file(load_file(path), path, {PACK_KEY: json.dumps(saved)})


def test_everything_comes_back(tmp_path: Path, three: list[Adapter]) -> None:
    path = tmp_path / "shelf.safetensors"
    packed = pack(three, path, torch.float32)
    header = read_pack_header(path)
    assert [lora.name for lora in header.loras] == [adapter.name for adapter in three]
    assert path.stat().st_size == packed.bytes
    for adapter in three:
        back = read_packed(path, adapter.name)
        assert distance(back, adapter) < 1e-6
        assert list(back.layers) == [name for name in header.layers if name in adapter.layers]
        for name in ("name", "trigger", "base", "metadata"):
            assert getattr(back, name) == getattr(adapter, name)
        assert back.warnings == adapter.warnings
        assert [word.word for word in back.embeddings] == [w.word for w in adapter.embeddings]
        for mine, its in zip(back.embeddings, adapter.embeddings, strict=True):
            assert mine.vectors.equal(its.vectors)
        assert back.shifts.keys() == adapter.shifts.keys()
        for module, shift in adapter.shifts.items():
            assert back.shifts[module].bias.equal(shift.bias)  # type: ignore[union-attr]


def test_the_error_in_the_header_is_the_real_one(tmp_path: Path, three: list[Adapter]) -> None:
    path = tmp_path / "shelf.safetensors"
    pack(three, path, torch.float16, 0.9)
    for lora, adapter in zip(read_pack_header(path).loras, three, strict=True):
        back = read_packed(path, lora.name)
        pairs = [(adapter.layers[name], back.layers.get(name)) for name in adapter.layers]
        gone = sum((a.delta() - (b.delta() if b else 0)).square().sum() for a, b in pairs)
        whole = sum(a.delta().square().sum() for a, _ in pairs)
        assert lora.error == pytest.approx((gone / whole).sqrt().item(), rel=1e-3)
        warned = any("relative error" in warning for warning in back.warnings)
        assert warned == (lora.error > LOSS)


def test_the_same_loras_give_the_same_bytes(tmp_path: Path, three: list[Adapter]) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for path in (one, two):
        pack(three, path, torch.float16, 0.95)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_merge_from_a_pack_is_that_of_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is verified and replayed from the pack, by its recipe."""
    shelf, out = tmp_path / "shelf.safetensors", tmp_path / "out.safetensors"
    said = done(capsys, "pack", CAT, PIZZA, "--dtype", "fp32", "--out", shelf)
    assert [row["name"] for row in said["loras"]] == [CAT.stem, PIZZA.stem]
    assert all(row["error"] < 1e-6 for row in said["loras"])
    names = (f"{shelf}#{CAT.stem}", f"{shelf}#{PIZZA.stem}@0.5")
    done(capsys, "merge", *names, "--method", "sum", "--dtype", "fp32", "--out", out)
    files, again = tmp_path / "files.safetensors", tmp_path / "again.safetensors"
    done(
        capsys, "merge", CAT, f"{PIZZA}@0.5", "--method", "sum", "--dtype", "fp32", "--out", files
    )  # fmt: skip
    assert distance(formats.read(out), formats.read(files)) < 1e-6
    inputs = done(capsys, "verify", out, shelf)["inputs"]
    assert [row["file"] for row in inputs] == [f"{shelf}#{CAT.stem}", f"{shelf}#{PIZZA.stem}"]
    assert done(capsys, "replay", out, shelf, "--out", again)["same"]
    words = refused(capsys, "replay", files, shelf, PIZZA, "--out", again)
    assert words.startswith(f"{shelf}#{CAT.stem} was packed from the file that the recipe names")
    assert words.endswith("this merge needs the file itself.")


def test_one_is_unpacked_and_all_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf, out = tmp_path / "shelf.safetensors", tmp_path / "cat.safetensors"
    done(capsys, "pack", CAT, PIZZA, "--dtype", "fp32", "--out", shelf)
    listed = done(capsys, "unpack", shelf)
    assert [row["name"] for row in listed["loras"]] == [CAT.stem, PIZZA.stem]
    done(capsys, "unpack", shelf, "--name", CAT.stem, "--dtype", "fp32", "--out", out)
    back, cat = formats.read(out), formats.read(CAT)
    assert distance(back, cat) < 1e-6
    assert back.trigger == cat.trigger


def test_what_cannot_be_packed_is_refused(
    tmp_path: Path, three: list[Adapter], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shelf.safetensors"
    one, two, _ = three
    for adapters, sentence in (
        ([one], "name at least two files"),
        ([one, replace(two, name=one.name)], f"are called {one.name}; rename"),
        ([one, replace(two, base="sd15")], "a pack holds LoRAs of one base"),
    ):
        with pytest.raises(MergeError, match=sentence):
            pack(adapters, path, torch.float16)
    large = replace(one, layers={n: replace(la, up=1e13 * la.up) for n, la in one.layers.items()})
    with pytest.raises(MergeError, match="too large for this precision; pack as fp32"):
        pack([large, two], path, torch.float16)
    text = refused(capsys, "pack", CAT, PIZZA, "--keep", 0, "--out", path)
    assert text == "--keep is a share above 0 and at most 1, not 0."
    assert list(tmp_path.iterdir()) == []


def test_a_pack_says_how_it_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf, out = tmp_path / "shelf.safetensors", tmp_path / "out.safetensors"
    done(capsys, "pack", CAT, PIZZA, "--out", shelf)
    for command in (["inspect", shelf], ["merge", shelf, CAT, "--method=sum", "--out", out]):
        assert "is a pack of several LoRAs; name one of them" in refused(capsys, *command)
    command = ["merge", f"{shelf}#nobody", CAT, "--method=sum", "--out", out]
    assert refused(capsys, *command) == (
        f"shelf.safetensors has no LoRA “nobody”; there are {CAT.stem}, {PIZZA.stem}."
    )
    assert "is no pack" in refused(capsys, "unpack", CAT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved.pop("loras"),
        lambda saved: saved["loras"][0].pop("ranks"),
        lambda saved: saved["loras"][0]["ranks"].append(3),
        lambda saved: saved["loras"][0]["ranks"].__setitem__(0, 50),
        lambda saved: saved["loras"][0].update(metadata=None),
        lambda saved: saved["loras"][0].update(metadata={"a": 3}),
        lambda saved: saved["loras"][0].update(warnings=[3]),
        lambda saved: saved["loras"][0]["words"].append("another"),
        lambda saved: saved["loras"][0].update(words={}),
        lambda saved: saved.update(loras=3),
        lambda saved: saved["layers"].__setitem__(0, "unet.nowhere"),
        lambda saved: saved.update(base="sdxl"),
        lambda saved: saved.update(version=2),
    ],
)
def test_a_damaged_pack_is_refused(
    tmp_path: Path, three: list[Adapter], damage: Callable[[dict], object]
) -> None:
    path = tmp_path / "shelf.safetensors"
    pack(three, path, torch.float16)
    rewritten(path, damage)
    with pytest.raises(MergeError, match=r"shelf\.safetensors"):
        read_packed(path, three[0].name)


def test_a_layer_with_wrong_numbers_is_refused(tmp_path: Path, three: list[Adapter]) -> None:
    path = tmp_path / "shelf.safetensors"
    pack(three, path, torch.float32)
    tensors = load_file(path)
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        metadata: Mapping[str, str] = json.loads(stream.read(length))["__metadata__"]
    layer = next(iter(three[0].layers))
    key = f"{layer}.left"
    for wrong in (tensors[key] * float("nan"), tensors[key][1:]):
        save_file(tensors | {key: wrong.contiguous()}, path, dict(metadata))
        with pytest.raises(MergeError, match=f"layer {layer} is damaged"):
            read_packed(path, three[0].name)
    for key in ("word.0.0", next(key for key in tensors if key.startswith("shift.0."))):
        for wrong in (tensors[key] * float("inf"), tensors[key][..., 1:], tensors[key][None]):
            save_file(tensors | {key: wrong.contiguous()}, path, dict(metadata))
            with pytest.raises(MergeError, match=f"{key} is damaged"):
                read_packed(path, three[0].name)
    save_file(tensors | {"shift.0.unet.nowhere.bias": torch.ones(3)}, path, dict(metadata))
    with pytest.raises(MergeError, match=r"nowhere\.bias is damaged"):
        read_packed(path, three[0].name)
