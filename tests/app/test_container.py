"""The real Dockerfile, built and run as uid 1000 on a root that cannot be written."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from app.space import write_space
from merging import formats
from tests.app import container
from tests.app.conftest import free_port
from tests.conftest import LORAS

FOLDER = "ITERIS_TEST_IMAGE"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(container.missing()), reason=f"the image was not built: {container.missing()}"
    ),
    pytest.mark.skipif(
        FOLDER not in os.environ,
        reason=f"the image was not built: that takes minutes, in the folder {FOLDER} if it is set",
    ),
]
LARGEST = 2e9  # bytes, of an image without CUDA


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> container.Builder:
    """With the image, of the files that a Docker Space gets."""
    folder = Path(os.environ[FOLDER])
    made = container.Builder(folder)
    made.base(folder / "debian")
    context = tmp_path_factory.mktemp("context")
    write_space("docker", context)
    made.build(context)
    return made


@pytest.fixture(scope="module")
def root(builder: container.Builder) -> Iterator[Path]:
    """The files of a container."""
    name = builder("from", "--pull=false", container.IMAGE)
    yield Path(builder("mount", name))
    builder("rm", name)


def test_the_image_is_small(root: Path) -> None:
    files = {path.lstat().st_ino: path.lstat().st_size for path in root.rglob("*")}
    assert sum(files.values()) < LARGEST


def test_it_merges_and_draws(builder: container.Builder, root: Path, tmp_path: Path) -> None:
    config, port = container.config_of(builder), free_port()
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    environ = {
        **dict(pair.split("=", 1) for pair in config["Env"]),
        "GRADIO_SERVER_PORT": f"{port}",
    }
    health = container.inside(root, config["WorkingDir"], check)
    assert subprocess.run(health, env=environ, capture_output=True).returncode, "nothing is there"
    with container.running(root, config, port) as program:
        while subprocess.run(health, env=environ, capture_output=True).returncode:
            assert program.poll() is None, program.stderr and program.stderr.read()
            time.sleep(1)
        url = f"http://127.0.0.1:{port}/"
        assert urlopen(url).status == 200
        patient = {"timeout": 300}  # seconds: a busy machine is no fault of the image
        client = Client(url, httpx_kwargs=patient, download_files=tmp_path, verbose=False)
        files = [handle_file(LORAS / f"{name}.safetensors") for name in ("sks-cat", "vxz-pizza")]
        merged = client.predict(files, samples=2, api_name="/merge")[0]
        assert formats.read(Path(merged)).trigger == "sks cat, vxz pizza"
        drawn = client.predict(prompt="a sks cat", files=files, steps=1, api_name="/render")[0]
        assert Image.open(drawn).size
        client.close()
        program.terminate()
        _, said = program.communicate(timeout=60)
    assert program.returncode == 0, said
    assert "WARNING" not in said
    assert "Traceback" not in said
