"""The app under a path behind nginx and Caddy, with their settings as docs/deploy.md has them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from gradio_client import Client, handle_file

from tests.app.conftest import free_port
from tests.conftest import ROOT

HOST = "studio.example"
NGINX = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    {server}
}}
"""


def documented(language: str) -> str:
    """The proxy's settings in docs/deploy.md."""
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (block,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def nginx(app: int, port: int, folder: Path) -> list[str | Path]:
    """The command that starts nginx on ``port`` before the app."""
    server = documented("nginx").replace("listen 80", f"listen 127.0.0.1:{port}")
    server = server.replace("127.0.0.1:7860", f"127.0.0.1:{app}")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, server=server))
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf"]


def caddy(app: int, port: int, folder: Path) -> list[str | Path]:
    """The command that starts Caddy on ``port`` before the app."""
    site = documented("caddy").replace(f"http://{HOST}", f"http://:{port}")
    site = site.replace("127.0.0.1:7860", f"127.0.0.1:{app}")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


@contextmanager
def running(command: list[str | Path], port: int, path: str = "/") -> Iterator[None]:
    """A server, from when it answers on."""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            for _ in range(240):
                if server.poll() is not None:
                    pytest.fail(f"{command[0]} ended: {server.stderr and server.stderr.read()}")
                try:
                    urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    """The port of a public app under /studio."""
    port = free_port()
    options = ["--public", "on", "--root-path", "/studio", "--device", "cpu", "--metrics", "on"]
    command: list[str | Path] = [sys.executable, "-m", "app", "--port", str(port), *options]
    with running(command, port):
        yield port


@pytest.mark.slow(30)
@pytest.mark.parametrize("proxy", [nginx, caddy], ids=lambda proxy: proxy.__name__)
def test_a_merge_under_a_path_reports_its_progress(
    proxy: Callable[[int, int, Path], list[str | Path]],
    app: int,
    pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    if not shutil.which(proxy.__name__):
        pytest.skip(f"{proxy.__name__} is not installed: nothing was tested behind it")
    port = free_port()
    with running(proxy(app, port, tmp_path), port, "/studio/"):
        url = f"http://127.0.0.1:{port}/studio/"
        page = urlopen(url).read().decode()
        assert f'"root":"{url[:-1]}"' in page, "the page asks for everything below its path"
        client = Client(url, verbose=False, download_files=tmp_path, analytics_enabled=False)
        files = [handle_file(file) for file in pair]
        job = client.submit(files, samples=2, teacher="single", api_name="/merge")
        _, progress = next(iter(job))
        assert progress["progress"] < 1 and not job.done(), "progress came while it was at work"
        assert Path(job.result()[0]).stat().st_size > 10_000
        client.close()
    figures = urlopen(f"http://127.0.0.1:{app}/metrics").read().decode()
    assert 'iteris_jobs_total{kind="merge",outcome="done"}' in figures
