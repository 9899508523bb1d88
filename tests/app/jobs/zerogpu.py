"""ZeroGPU without a GPU: a pytest plugin, `-p tests.app.jobs.zerogpu`, with the real `spaces`.

`spaces` asks a device API for a GPU and forks a process for every task; that API is played by this
module, and what `spaces` does to torch is left out, since there is no CUDA here to be emulated.
"""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import torch

EMULATED = "ITERIS_TEST_ZEROGPU"


class DeviceApi(ThreadingHTTPServer):
    """One GPU for whoever asks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.refusal: tuple[int, object, dict[str, str]] | None = None  # of the next schedule
        self.pids: list[int] = []  # that were let to a GPU, in this order
        self.durations: list[int] = []  # asked for
        self.tokens: list[str | None] = []  # of the visitors whose quota is to pay


class Answer(BaseHTTPRequestHandler):
    """/startup-report, /schedule, /allow and /release."""

    protocol_version = "HTTP/1.1"
    server: DeviceApi

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/schedule":
            self.server.durations.append(int(query["durationSeconds"]))
            self.server.tokens.append(query.get("token"))
            if self.server.refusal:
                return self._send(*self.server.refusal)
            token = f"token-{len(self.server.durations)}"
            return self._send(
                200,
                {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": token},
                {},
            )
        if url.path == "/allow":
            self.server.pids.append(int(query["pid"]))
        return self._send(200, {}, {})

    def _send(self, status: int, body: object, headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """In silence."""


def _is_in_bad_fork() -> bool:
    return False


def _no_cuda(*_arguments: object) -> None:
    raise RuntimeError("CUDA was reached")


def emulate() -> DeviceApi:
    """Import `spaces` as on a ZeroGPU Space."""
    api = DeviceApi()
    threading.Thread(target=api.serve_forever, daemon=True).start()
    os.environ |= {
        "SPACES_ZERO_GPU": "1",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{api.server_port}",
        EMULATED: "1",
    }
    # What spaces looks at and only a torch with CUDA has.
    torch.version.cuda = "12.8"
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = _no_cuda  # type: ignore[attr-defined]
    _is_in_bad_fork.__module__ = "torch.cuda"
    torch.cuda._is_in_bad_fork = _is_in_bad_fork  # type: ignore[assignment]
    import spaces  # noqa: F401
    from spaces.zero import torch as patches

    patches.unpatch()
    patches.init = patches.move = patches.unpatch = lambda *_a, **_k: None
    patches.size = lambda: 0
    return api


API = emulate()
