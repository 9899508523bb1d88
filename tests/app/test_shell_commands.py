"""The commands that the page shows do what the page did."""

from __future__ import annotations

import shlex
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from app.jobs.queue import Step
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.card import Card
from app.schemas.draw import COLUMNS, DrawOrder, Picture
from app.schemas.export import ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.shell_commands import (
    batch_command,
    draw_commands,
    file_argument,
    merge_command,
    take_commands,
)
from merging import formats
from merging.__main__ import main
from merging.adapter import VectorDelta
from merging.cli.arguments.file_argument import parse_file_argument
from merging.cli.arguments.merge_options import chosen_options
from merging.cli.merge import add_merge
from merging.cli.parser import CommandParser
from merging.options import merge_options, option_values


def run(command: str) -> None:
    """A line of the page, in this process."""
    program, words = shlex.split(command)[:3], shlex.split(command)[3:]
    assert program == ["python", "-m", "merging"]
    assert main(words) == 0


def visit(studio: Studio, files: Iterable[Path], folder: Path) -> tuple[str, list[Card]]:
    """A visit with these files, which the commands will find in the folder."""
    session, cards = studio.open_session(), list[Card]()
    for file in files:
        cards.append(studio.add(session, file, cards))
        (folder / file.name).write_bytes(file.read_bytes())
    return session, cards


@pytest.mark.slow
def test_the_commands_redo_merge_and_pictures(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, cards = visit(studio, pair, tmp_path)
    cat, pizza = map(SelectedFile.of, cards)
    picks = (replace(cat, strength=0.9, text_encoder=0.5, blocks="MIDD"), pizza)
    order = MergeOrder(
        picks, samples=1, targets="cross-attention", ridge=0.01, dtype="fp32", precision="fp32"
    )
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    monkeypatch.chdir(tmp_path)
    run(merge_command(order, merged.kohya.name))
    assert (tmp_path / merged.kohya.name).read_bytes() == merged.kohya.read_bytes()

    scene = DrawOrder(
        picks, "a sks cat\na vxz pizza", merged=merged.kohya, seed=3, steps=2, count=2,
        negative="it's a dog", sampler="Euler a", columns=(*COLUMNS, "gated"),
        precision="fp32", size="64x96", clip_skip=2,
    )  # fmt: skip
    found = [item for item in studio.draw(session, scene) if isinstance(item, Picture)]
    pictures = scene.arranged(found)
    commands = draw_commands(scene).splitlines()
    assert len(commands) == 6
    assert all("--precision fp32" in command for command in commands)
    for place in (0, len(commands) - 1):
        run(commands[place])
        folder = Path(shlex.split(commands[place])[-1])
        drawn = [Image.open(path).tobytes() for path in sorted(folder.iterdir())]
        shown = [picture.path for picture in pictures[4 * place : 4 * place + 4]]
        assert drawn == [Image.open(path).tobytes() for path in shown]


@pytest.mark.slow
def test_the_commands_write_the_same_whole_file(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that one has biases; a merge without any is made whole of its LoRA."""
    layer, files = "text_encoder.text_model.encoder.layers.0.mlp.fc1", list[Path]()
    for place, file in enumerate(pair):  # few layers: whole ones take long to be read back
        adapter = formats.read(file)
        own = {name: change for name, change in adapter.layers.items() if "mid_block" in name}
        shifts = {} if place else {layer: VectorDelta(bias=torch.linspace(-1, 1, 512))}
        files.append(tmp_path / file.name)
        few = replace(adapter, layers=own, shifts=shifts)
        formats.write_full(few, files[-1], torch.float32)
    session, (cat, pizza) = visit(studio, files, tmp_path)
    monkeypatch.chdir(tmp_path)
    for strengths, rank in (((1.0, 0.5), "exact"), ((0.0, 1.0), "4")):
        both = zip(map(SelectedFile.of, (cat, pizza)), strengths, strict=True)
        picks = tuple(replace(pick, strength=strength) for pick, strength in both)
        order = MergeOrder(picks, method="sum")
        (merged,) = (
            item for item in studio.merge(session, order) if isinstance(item, FinishedMerge)
        )
        asked = ExportOrder(merged, form="full", dtype="bf16", rank=rank)
        made = studio.take(session, asked)
        merge, convert = take_commands(asked, made.file.name).splitlines()
        if merged.full:
            run(merge)
        else:  # as the first test here does
            shutil.copy(merged.kohya, tmp_path)
        run(convert)
        assert (tmp_path / made.file.name).read_bytes() == made.file.read_bytes()
        found = formats.read(made.file)
        assert (merged.full is not None) == (rank == "exact") == (layer in found.shifts)
        if merged.full:
            assert "1 bias, largest error" in merged.checks[-1]
            assert (tmp_path / merged.full.name).read_bytes() == merged.full.read_bytes()
            scene = DrawOrder(
                picks, "a cat", merged=merged.drawn_with, steps=1, columns=("merged",)
            )
            (shown,) = (item for item in studio.draw(session, scene) if isinstance(item, Picture))
            run(draw_commands(scene))
            (drawn,) = (tmp_path / "pictures" / "merged").iterdir()
            assert Image.open(drawn).tobytes() == Image.open(shown.path).tobytes()
            assert layer in formats.read(merged.drawn_with).shifts
        assert layer not in formats.read(merged.kohya).shifts


@pytest.mark.slow
def test_the_command_makes_the_same_batch(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, cards = visit(studio, pair, tmp_path)
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), samples=1, targets="cross-attention")
    asked = BatchOrder(order, ("iteris", "sum"), ((0.9,), ()))
    *merges, made = (item for item in studio.batch(session, asked) if not isinstance(item, Step))
    assert isinstance(made, BatchResult)
    monkeypatch.chdir(tmp_path)
    run(batch_command(asked, made.archive.name, made.recipe))
    assert (tmp_path / made.archive.name).read_bytes() == made.archive.read_bytes()
    with zipfile.ZipFile(made.archive) as bundle:  # each merge is whole without its zip, too
        for row, merged in zip(made.rows, merges, strict=True):
            assert isinstance(merged, FinishedMerge)
            (name,) = (n for n in bundle.namelist() if n.endswith(f"{row.stem}.safetensors"))
            found = safetensors.torch.load(bundle.read(name))
            own = safetensors.torch.load_file(
                merged.kohya
            )  # under another name, which is in the header
            assert found.keys() == own.keys()
            assert all(torch.equal(found[key], own[key]) for key in own)
            cat, pizza = order.picks
            picks = (replace(cat, strength=0.9), pizza)
            assert merged.order == replace(order, picks=picks, method=row.method)
    learned, plain = made.rows
    assert learned.error and learned.sum_error and 0 < learned.error < learned.sum_error
    assert (plain.error, plain.strengths, plain.kept_energy) == (None, (0.9, 1.0), 1.0)


def test_own_prompts_come_from_the_recipe() -> None:
    pick = SelectedFile(Path("x"), "cat", prompts=("a sks cat",))
    words = shlex.split(merge_command(MergeOrder((pick, pick)), "o.safetensors"))
    assert words[-4:] == ["--recipe", "recipe.json", "--out", "o.safetensors"]
    assert "--trigger" not in words


@pytest.mark.parametrize(
    "pick",
    [
        SelectedFile(Path("x"), "cat"),
        SelectedFile(Path("x"), "my cat", -0.5),
        SelectedFile(Path("x"), "cat", 0.8, text_encoder=0.5, unet=1.0, blocks="MIDD"),
    ],
)
def test_strengths_are_read_back_as_they_were(pick: SelectedFile) -> None:
    found = parse_file_argument(file_argument(pick))
    wanted = replace(pick.lora_input, path=Path(f"{pick.name}.safetensors"))
    assert found == wanted


UNUSUAL = {
    "method": "mix-of-show",
    "targets": "all",
    "samples": 7,
    "rows": None,
    "teacher": "sum",
    "composed_weight": 2.5,
    "preserve": 0.0,
    "fallback": "zero",
    "ridge": 1e-05,
    "cross_ridge": 0.25,
    "mode": "full",
    "weighting": "delta",
    "padding": "first-eos",
    "tokens": "concept",
    "rounds": 3,
    "clip_skip": 2,
    "rank": 12,
    "refine": 40,
    "seed": 9,
}


def test_every_option_of_an_order_is_in_its_command() -> None:
    assert UNUSUAL.keys() == merge_options().keys()
    pick = SelectedFile(Path("x"), "cat")
    order = MergeOrder((pick, pick), **UNUSUAL)
    words = shlex.split(merge_command(order, "o.safetensors"))[4:]
    parser = CommandParser()
    add_merge(parser)
    options = parser.parse_args(words)
    assert chosen_options(options) | {"method": options.method} == option_values(order)
