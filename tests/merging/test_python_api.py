"""What `import merging` offers, and that it is as light as docs/python.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import merging
from merging.diffusion.base import Base
from tests.conftest import HEAVY, LORAS, ROOT, SHELF, distance

IMPORTED = f"""
import os
import sys
before = dict(os.environ)
import merging
assert set(merging.__all__) <= set(dir(merging))
merging.MergeError, merging.METHODS, merging.MergeRequest, merging.Source
assert merging.inspect({str(SHELF["sks cat"])!r})["base"] == "mini"
assert dict(os.environ) == before
print([name for name in {(*HEAVY, "numpy", "gradio")!r} if name in sys.modules])
"""
SAVED = f"""
from merging import MergeError, MergeRequest, Source, load_base, merge, read, render, save
base = load_base("mini", "cpu")
request = MergeRequest((Source(read({str(SHELF["sks cat"])!r}, base)),), method="sum")
save(merge(request), "merged.safetensors", base=base)
try:
    render(base, ["cat " * 500], [0])
except MergeError:
    print("too long")
"""
IN_CHECKOUT = {**os.environ, "PYTHONPATH": str(ROOT)}


def example(page: str = "docs/python.md") -> str:
    """The Python code of a page."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    return code


def test_nothing_heavy_is_imported_before_a_name_needs_it() -> None:
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.slow
def test_loading_saving_and_a_prompt_that_is_too_long_log_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVED]
    done = subprocess.run(
        command, cwd=tmp_path, env=IN_CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout.strip(), done.stderr) == ("too long", "")


@pytest.mark.parametrize("name", merging.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(merging, name) is not None
    assert name == "__version__" or f"`{name}" in (ROOT / "docs/python.md").read_text("utf-8")


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'blend'"):
        _ = merging.blend


def test_a_weight_only_merge_needs_no_base() -> None:
    sources = [merging.Source(merging.read(SHELF[word])) for word in ("sks cat", "vxz pizza")]
    request = merging.MergeRequest(tuple(sources), method="sum")
    assert merging.merge(request).adapter.layers
    with pytest.raises(merging.MergeError, match="needs a base model"):
        merging.merge(merging.MergeRequest(tuple(sources)))


def test_a_file_is_read_alike_with_and_without_the_base(base: Base) -> None:
    path = str(SHELF["sks cat"])
    assert distance(merging.read(path), merging.read(path, base)) == 0
    assert merging.inspect(path, values=True, base=base)["block_norms"]


def test_the_example_is_short_and_the_readme_has_the_same() -> None:
    assert example() == example("README.md")
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 8
    assert sum("import " in line for line in lines) <= 2


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "loras").symlink_to(LORAS)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    sources = "(Source(cat), Source(pizza, strength=0.9))"
    assert f"MergeRequest({sources})" in example()
    exec(example().replace(sources, f"{sources}, samples=1"), names)  # or it takes a minute
    saved = merging.read(tmp_path / "merged.safetensors")
    assert distance(saved, names["result"].adapter) < 1e-2  # saved in half precision
    assert (tmp_path / "merged.png").stat().st_size > 1000
