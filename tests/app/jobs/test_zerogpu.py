"""ZeroGPU, emulated in a process of its own: every executor's laws, and what is its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from gradio_client import Client, handle_file

from app.jobs.held import HeldJob
from app.jobs.line import line_of
from app.jobs.queue import Executor, Step
from app.jobs.slots import slots_of
from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.merge import MergeOrder
from app.schemas.task import Order, Task
from app.settings.model import Settings
from app.space import write_space
from merging.errors import MergeError
from tests.app.conftest import free_port
from tests.app.jobs.executor_visits import PICKS
from tests.conftest import ROOT

EMULATED = "ITERIS_TEST_ZEROGPU" in os.environ
emulated = pytest.mark.skipif(not EMULATED, reason="runs in the process that emulates ZeroGPU")


@pytest.mark.slow(60)
@pytest.mark.skipif(EMULATED, reason="this is that process")
def test_the_laws_hold_on_zerogpu() -> None:
    pytest.importorskip("spaces", reason="requirements-zerogpu.txt is not installed")
    command = [sys.executable, "-m", "pytest", "-p", "tests.app.jobs.zerogpu", "-n", "0", "-x"]
    files = [f"tests/app/jobs/{name}.py" for name in ("test_executors", "test_zerogpu")]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork has none of its parent's threads
    done = subprocess.run(
        [*command, *files], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 15, done.stdout


@pytest.fixture
def api() -> Any:
    from tests.app.jobs.zerogpu import API

    yield API
    API.refusal = None


QUOTA = {"X-Approve-Result": "quota-exceeded", "X-Authenticated": "regular"}


@emulated
@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((429, {"left": 12, "wait": 3600}, QUOTA), "GPU time on Hugging Face is used up"),
        ((429, {"left": 12, "wait": -1}, QUOTA), "longer than one task may"),
        ((503, {}, {}), "No GPU can be had"),
    ],
    ids=["quota", "too long", "no GPU"],
)
def test_a_refused_gpu_is_reported_in_our_words(
    api: Any, refusal: Any, sentence: str, tmp_path: Path
) -> None:
    settings = Settings(work=tmp_path, device="cpu", executor="zerogpu")
    executor = Executor(slots_of(settings, lambda: pytest.fail("not used")), line_of(settings))
    api.refusal = refusal
    with pytest.raises(MergeError, match=sentence):
        list(executor.run("a", Task("draw", DrawOrder((), "a cat"), tmp_path)))


@emulated
def test_the_visitors_own_quota_pays(api: Any, tmp_path: Path) -> None:
    """Also for a job that outlives its page: its thread knows the request that began it."""
    from gradio.context import LocalContext
    from starlette.datastructures import Headers

    settings = Settings(work=tmp_path, device="cpu", executor="zerogpu")
    executor = Executor(slots_of(settings, lambda: pytest.fail("not used")), line_of(settings))
    before = LocalContext.request.set(SimpleNamespace(headers=Headers({"X-IP-Token": "hers"})))
    order = DrawOrder((), "a cat", steps=1, size="64x64", columns=("base",))
    job = HeldJob(order, patience=60)
    job.begin(executor.run("a", Task("draw", order, tmp_path)))
    LocalContext.request.reset(before)
    assert [item for item in job.follow() if not isinstance(item, Step)]
    assert api.tokens[-1] == "hers"


@emulated
def test_more_work_asks_for_more_seconds(tmp_path: Path) -> None:
    from app.jobs.slots.zerogpu import MOST, seconds

    merge, scene = MergeOrder((), samples=8), DrawOrder((), "a cat", steps=10)
    more: tuple[tuple[Order, Order], ...] = (
        (scene, replace(scene, steps=50)),
        (scene, replace(scene, count=4)),
        (scene, ComparisonOrder(merge, scene)),
        (merge, replace(merge, samples=30)),
        (merge, replace(merge, refine=100)),
        (merge, BatchOrder(merge, ("sum", "iteris"), ())),
    )
    for less, order in more:
        assert seconds(Task("draw", less, tmp_path)) < seconds(Task("draw", order, tmp_path))
    assert seconds(Task("batch", BatchOrder(merge, ("sum",) * 90, ()), tmp_path)) == MOST


@pytest.mark.slow(30)
@pytest.mark.skipif(EMULATED, reason="starts a process of its own that emulates ZeroGPU")
def test_the_space_that_is_uploaded_merges_on_its_gpu(tmp_path: Path) -> None:
    pytest.importorskip("spaces", reason="requirements-zerogpu.txt is not installed")
    write_space("gradio", folder := tmp_path / "space")
    program = (
        "import runpy, tests.app.jobs.zerogpu; runpy.run_path('space.py', run_name='__main__')"
    )
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "OMP_NUM_THREADS": "1",  # torch is here before space.py can say so
        "ITERIS_BASE": "mini",  # with Stable Diffusion 1.5 it needs the network
        "ITERIS_PRECISION": "fp32",
        "ITERIS_DEVICE": "cpu",
        "ITERIS_PUBLIC": "on",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port := free_port()),
    }
    command = [sys.executable, "-c", program]
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log) as space,
    ):
        try:
            wait_for_health(port, space)
            client = Client(f"http://127.0.0.1:{port}/", verbose=False, download_files=tmp_path)
            files = [handle_file(pick.path) for pick in PICKS]
            merged = client.predict(files, method="sum", api_name="/merge")[0]
            client.close()
        finally:
            space.terminate()
            space.wait()
        assert Path(merged).stat().st_size > 10_000
        log.seek(0)
        assert re.search(
            r"ZeroGPU: merge asked for \d+ s and took [\d.]+ s, after [\d.]+ s", log.read()
        )


def wait_for_health(port: int, program: subprocess.Popen[bytes]) -> None:
    """Until the program answers."""
    while True:
        assert program.poll() is None
        try:
            urlopen(f"http://127.0.0.1:{port}/health")
            return
        except OSError:
            time.sleep(0.5)
