"""A whole refinement of the bundled cat and dog, with few pictures: stopped, and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from merging.bundled import shelf
from merging.diffusion.base import Base
from merging.diffusion.refine import training
from merging.errors import Cancelled
from merging.python_api import merge
from merging.request import MergeRequest, Source

REFINE = "merging.diffusion.refine"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One composite of each order, one or two pictures of everything else, five rows a step."""
    monkeypatch.setattr(f"{REFINE}.judge.JUDGE_PICTURES", 1)
    monkeypatch.setattr(f"{REFINE}.judge.JUDGE_STEPS", 6)
    monkeypatch.setattr(f"{REFINE}.composites.tried_of_each", lambda _orders: 1)
    monkeypatch.setattr(f"{REFINE}.composites.PAINTED_STEPS", 10)
    monkeypatch.setattr(f"{REFINE}.lessons.LESSON_PICTURES", 2)
    monkeypatch.setattr(f"{REFINE}.lessons.LESSON_STEPS", 2)
    monkeypatch.setattr(f"{REFINE}.run.PROOFS", 1)
    monkeypatch.setattr(f"{REFINE}.run.PROOF_STEPS", 2)
    for kind, count in {"composites": 2, "alone": 2, "plain": 1}.items():
        monkeypatch.setitem(training.ROWS, kind, count)


@pytest.mark.slow(18)
@pytest.mark.usefixtures("small")
def test_it_goes_on_after_a_stop_and_reports_what_it_did(base: Base, tmp_path: Path) -> None:
    lora = {entry.trigger: entry.adapter(base.table) for entry in shelf()}
    pair = tuple(Source(lora[phrase]) for phrase in ("sks cat", "qfj dog"))
    request = MergeRequest(pair, method="tsv", refine=2)
    texts: list[str] = []

    def interrupt(_share: float, text: str) -> None:
        texts.append(text)
        if text.startswith("refining, step 2"):
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        merge(request, base, interrupt, checkpoint=tmp_path)
    assert any(text.startswith("painting sks cat and qfj dog") for text in texts)
    shares: list[float] = []
    texts.clear()

    def note(share: float, text: str) -> None:
        shares.append(share)
        texts.append(text)

    result = merge(request, base, note, checkpoint=tmp_path)
    assert not any(text.startswith(("painting", "pictures of")) for text in texts), "all kept"
    assert shares == sorted(shares) and shares[-1] == 1
    report = " ".join(result.report.notes)
    for words in ("sks cat + qfj dog", "of 1", "composites", "alone", "plain", "before", "after"):
        assert words in report
    plain = merge(MergeRequest(pair, method="tsv")).adapter
    moved = [name for name, layer in plain.layers.items()
             if not result.adapter.layers[name].up.equal(layer.up)]  # fmt: skip
    assert moved
