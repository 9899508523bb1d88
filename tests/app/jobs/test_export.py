"""Files made to measure, the archive with its README, and the Hub out of reach."""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch
import yaml
from huggingface_hub import HfApi

from app.hub_upload import push
from app.jobs.export import curve, unpack
from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.export import ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.ui.html.rank_chart import rank_chart, rank_choices
from app.ui.sections.export import export_section
from merging import formats
from merging.adapter import Adapter, LoraLayer, VectorDelta
from merging.analysis.rank_curve import truncate_rank
from merging.errors import MergeError
from merging.export.model_card import SourceTerms, model_card
from merging.packs.packing import pack
from tests.conftest import distance

TOKEN = "hf_thisIsNobodysToken"


@pytest.fixture(scope="module")
def drawn(studio: Studio, pair: tuple[Path, Path]) -> tuple[str, ExportOrder]:
    """A merge of the bundled pair, and one picture of it."""
    session, cards = studio.open_session(), list[Card]()
    for file in pair:
        cards.append(studio.add(session, file, cards))
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    scene = DrawOrder(order.picks, "a sks cat", merged=merged.kohya, steps=1, columns=("merged",))
    pictures = tuple(item for item in studio.draw(session, scene) if isinstance(item, Picture))
    return session, ExportOrder(merged, pictures)


def test_as_merged_is_the_merge(studio: Studio, drawn: tuple[str, ExportOrder]) -> None:
    session, order = drawn
    made = studio.take(session, order)
    assert made.file.name == "sum_sks-cat+vxz-pizza.safetensors"
    assert distance(formats.read(made.file), formats.read(order.merged.kohya)) < 1e-3
    assert "keys fit A1111, Forge, ComfyUI, InvokeAI and diffusers" in made.sentence
    assert "loaded by diffusers, error" in made.sentence  # the pictures have loaded the base


def test_a_smaller_file_is_the_best_of_its_rank(
    studio: Studio, drawn: tuple[str, ExportOrder]
) -> None:
    session, order = drawn
    made = studio.take(session, replace(order, rank="4", dtype="fp32", form="diffusers"))
    assert made.file.name == "sum_sks-cat+vxz-pizza_r4_fp32_diffusers.safetensors"
    found = formats.read(made.file)
    assert distance(found, truncate_rank(formats.read(order.merged.kohya), 4)) < 1e-4
    assert max(layer.rank for layer in found.layers.values()) == 4
    assert found.trigger == "sks cat, vxz pizza"


def test_sparse_changes_are_taken_as_peft_s_folder(
    studio: Studio, drawn: tuple[str, ExportOrder], tmp_path: Path
) -> None:
    """From the full file: factors in half precision have no zeros."""
    session, order = drawn
    with pytest.raises(MergeError, match="merge with the rank “uncut” to write SHiRA"):
        studio.take(session, replace(order, form="shira"))
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    change = torch.zeros(formats.table("mini").shapes[name])
    change[3, 5:9] = 0.25
    layer = LoraLayer(change, torch.eye(change.shape[1]), float(change.shape[1]))
    full = tmp_path / "full.safetensors"
    formats.write_full(Adapter("sparse", {name: layer}, base="mini"), full, torch.float16)
    sparse = replace(order, merged=replace(order.merged, full=full), form="shira", dtype="fp32")
    made = studio.take(session, sparse)
    assert made.file.name == "adapter_model.safetensors"
    with zipfile.ZipFile(made.archive) as bundle:
        names = {Path(name).name for name in bundle.namelist()}
        bundle.extractall(tmp_path)
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= names
    delta = formats.read(tmp_path / made.folder.name / made.file.name).layers[name].delta()
    assert torch.equal(delta.count_nonzero(dim=1) > 0, change.any(dim=1))
    assert "keys fit peft" in made.sentence
    with gr.Blocks():
        files, *_ = export_section()
        shown = files.show_export(sparse, made)
        assert not shown[files.file].visible and shown[files.archive].visible


def test_a_lora_of_a_pack_keeps_its_biases(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Which only the full format holds."""
    cat, pizza = map(formats.read, pair)
    vector, length = next(iter(formats.table("mini").vectors.items()))
    shift = VectorDelta(bias=torch.ones(length))
    shifted = replace(cat, shifts={vector.rpartition(".")[0]: shift})
    pack([shifted, pizza], tmp_path / "pack.safetensors", torch.float16, trade_offs=())
    back = formats.read(unpack(tmp_path / "pack.safetensors", cat.name, tmp_path, "pack"))
    assert back.shifts.keys() == shifted.shifts.keys()
    assert distance(back, cat) < 2e-3


def test_the_full_file_is_offered_first_where_it_alone_holds_all(
    drawn: tuple[str, ExportOrder],
) -> None:
    merged = drawn[1].merged
    with gr.Blocks():
        files, *_ = export_section()
        for full in (merged.kohya, None):
            shown = files.show_merge(replace(merged, full=full))
            assert shown[files.form] == ("full" if full else "kohya")
            assert shown[files.full].visible == bool(full)


def test_the_archive_holds_all_that_belongs_to_it(
    studio: Studio, drawn: tuple[str, ExportOrder]
) -> None:
    session, order = drawn
    made = studio.take(session, replace(order, name="My Pets & Meals/.."))
    again = studio.take(session, replace(order, name="My Pets & Meals/.."))
    assert made.archive.read_bytes() == again.archive.read_bytes()
    with zipfile.ZipFile(made.archive) as bundle:
        names = bundle.namelist()
        card = bundle.read("my-pets-meals/README.md").decode()
        saved = json.loads(bundle.read("my-pets-meals/recipe.json"))
    assert names == [
        "my-pets-meals/README.md",
        "my-pets-meals/my-pets-meals.safetensors",
        f"my-pets-meals/pictures/00_{order.pictures[0].path.name}",
        "my-pets-meals/recipe.json",
        "my-pets-meals/report.json",
    ]
    assert saved == order.merged.recipe
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["instance_prompt"] == "sks cat, vxz pizza"
    for words in ("sks-cat", "vxz-pizza", "not in its file: ask its author", "largest error"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "words"), [({"rank": "none"}, "rank must be"), ({"dtype": "int4"}, "int4")]
)
def test_impossible_files_are_refused(
    studio: Studio, drawn: tuple[str, ExportOrder], change: dict[str, str], words: str
) -> None:
    session, order = drawn
    with pytest.raises(MergeError, match=words):
        studio.take(session, replace(order, **change))


def test_a_full_disk_is_reported(
    studio: Studio, drawn: tuple[str, ExportOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    session, order = drawn
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MergeError, match=r"cannot be written \(No space left on device\)"):
        studio.take(session, order)


def test_the_curve_offers_every_rank(drawn: tuple[str, ExportOrder]) -> None:
    points = curve(drawn[1].merged)
    offered = rank_choices(points)
    assert offered[0][1] == "exact"
    assert [value for _, value in offered[1:]] == [f"{p.rank}" for p in reversed(points[:-1])]
    assert f"rank {points[0].rank}: {points[0].energy:.1%}" in rank_chart(points)


def test_a_card_takes_nothing_that_others_wrote_for_markup() -> None:
    recipe = {
        "method": "sum",
        "base": "sd15",
        "sources": [
            {"name": "a|b<script>", "strength": 1.0, "trigger": "x\ny", "sha256": "0" * 64}
        ],
    }
    notes = [SourceTerms("a|b<script>", licence="CC-BY-4.0", author="me: [1]\n---")]
    card = model_card("t", recipe, notes, 'tri: "gger"\n---\nlicense: mit', ["t.safetensors"], [])
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["license"], front["license_name"]) == ("other", "CC-BY-4.0")
    assert front["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert "<script>" not in card and "a\\|b&lt;script>" in card


@pytest.mark.parametrize(
    ("repo", "token", "words"),
    [
        ("me/it", TOKEN, "me/it was not uploaded: the Hub could not be reached"),
        ("../it", TOKEN, "Name the repository"),
        ("me/it", " ", "Type a token"),
        ("me/it", f"{TOKEN}\n{TOKEN}", "was not uploaded"),
    ],
)
def test_a_failed_push_is_reported_without_the_token(
    tmp_path: Path, repo: str, token: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    with caplog.at_level(logging.DEBUG), pytest.raises(MergeError, match=words) as refused:
        push(tmp_path, repo, token)
    assert TOKEN not in str(refused.value) + caplog.text
    assert refused.value.__cause__ is None, "no traceback that could show it"


def test_a_push_is_private_and_brings_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub's own methods are looked at on the way to the network."""
    asked: list[tuple[str, dict]] = []

    def create(api: HfApi, repo: str, **options: object) -> object:
        asked.append((str(api.token), {"repo": repo, **options}))
        return type("Url", (str,), {"repo_id": repo})(f"https://huggingface.co/{repo}")

    def upload(api: HfApi, **options: object) -> None:
        asked.append((str(api.token), options))

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert push(tmp_path, " me/it ", f" {TOKEN} ") == "https://huggingface.co/me/it"
    assert asked == [
        (TOKEN, {"repo": "me/it", "private": True, "exist_ok": True}),
        (TOKEN, {"repo_id": "me/it", "folder_path": tmp_path}),
    ]
