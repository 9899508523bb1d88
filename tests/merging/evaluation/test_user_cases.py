"""Cases of one's own, from a YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from merging.bundled import LORAS
from merging.errors import MergeError
from merging.evaluation import contest as benchmark
from merging.evaluation.cases import Concept
from merging.evaluation.cells import Arena
from merging.evaluation.leaderboard import write_page
from merging.evaluation.metrics import Scorers
from merging.evaluation.user_cases import protocol_cases
from merging.evaluation.variants import ENTRANTS
from merging.runtime.progress import silent

CAT = Concept(LORAS / "sks-cat.safetensors", "sks cat")
PIZZA = Concept(LORAS / "vxz-pizza.safetensors", "vxz pizza")


PROTOCOL = """
pictures: 2
others: [dog]
pairs:
  - name: cat & <pizza>
    concepts:
      - lora: {cat}
        trigger: sks cat
        references: photos
      - {{lora: {pizza}, trigger: vxz pizza}}
"""


def written(folder: Path, text: str = PROTOCOL) -> Path:
    (folder / "photos").mkdir(exist_ok=True)
    Image.new("RGB", (80, 60), "purple").save(folder / "photos" / "one.jpg")
    file = folder / "protocol.yaml"
    file.write_text(text.format(cat=CAT.file, pizza=PIZZA.file), encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_protocol_of_ones_own_runs_from_files_to_table(arena: Arena, tmp_path: Path) -> None:
    cases = protocol_cases(written(tmp_path))
    assert cases[0].concepts[0].references == (tmp_path / "photos" / "one.jpg",)
    by_clip = Arena(arena.base, Scorers(arena.scorers.clip), tmp_path / "out", steps=2)
    keys = ["base", "each", "sum", "average"]
    figures = benchmark.run(by_clip, keys, cases, silent)
    text = benchmark.table(figures)
    assert "image-align" in text
    assert "all present" not in text, "no detector, no such figure"
    assert "better than the sum" in text and "concepts forgotten" in text
    html = write_page(by_clip, keys, cases, figures).read_text(encoding="utf-8")
    assert "cat &amp; &lt;pizza&gt;" in html and "<pizza>" not in html and "<script" not in html
    sheets = [unquote(file) for file in re.findall(r'<img src="([^"]+)"', html)]
    assert sheets == ["cat & <pizza>.png"]
    assert all((by_clip.folder / sheet).is_file() for sheet in sheets)
    assert all(ENTRANTS[key].title in html for key in keys)
    assert len(re.findall(r"<td>[\d.]+ s</td>", html)) == 2 * len(keys), "two times for each"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pictures: 2", "pictures: one", "pictures must be a whole number"),
        ("others:", "otters:", "otters is not a field"),
        ("references: photos", "references: nowhere", "nowhere is neither a picture"),
        ("trigger: sks cat", "look: blue", "look is not a field"),
        ("        trigger: sks cat\n", "", "trigger is missing"),
        ("pairs:", "prompts: [a cat]\npairs:", "needs {0} and {1}"),
        ("pictures: 2", "pictures: [", "no YAML file"),
    ],
)
def test_a_wrong_protocol_is_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = written(tmp_path, PROTOCOL.replace(old, new))
    with pytest.raises(MergeError, match=message.replace("{", r"\{")) as refusal:
        protocol_cases(file)
    assert "protocol.yaml" in str(refusal.value) and "\n" not in str(refusal.value)
