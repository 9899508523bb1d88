"""Every endpoint with hostile values of every argument: one sentence each, and no traceback."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.attack.outcome import Outcome, within
from tests.attack.running import PAIR, Running

SEED = 23
AT_ONCE = 4  # calls
PATIENCE = 600  # seconds, on a busy machine
SECRET = re.compile(r"/tmp/|/root|/home/|sessions/|Traceback|File \"|\.py\b")
SENTENCE = re.compile(r"[A-Z“a-z_/].*[.!?]", re.DOTALL)
HUGE = "x" * 50_000
FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 2.5, 1e308, -1e308, 1e-320, 10**19, -(10**19), 10**40,
    float("nan"), float("inf"), float("-inf"), "", "5", "NaN", "1e308", "\0", "../../etc/passwd",
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "{0.__class__}", "%s%n", "\u202e\ud83d",
    "\n" * 2000, [], [None], [[]], [1], ["x"], [float("nan")], [1e308], [True], [{}], [FILE],
    [FILE] * 300, HUGE, {}, {"path": None}, {"path": 5}, {"path": ""}, {"path": "\0"}, FILE,
    {"path": "/proc/self/environ"}, {"path": "."}, {"__class__": 1}, [[[[[[]]]]]], [HUGE], "null",
    "exact", "0", "-1", "9" * 400, "1x1", "99999x99999", "0x0",
)  # fmt: skip
# In order, and painting for a refinement takes half an hour: no attack, but the end of this one.
LONG = {"refine": (1, 5)}
QUICK = {"method": "sum", "steps": 1, "samples": 1, "rows": 1, "targets": "cross-attention"}


def attack(app: Running, values: tuple[Any, ...] = HOSTILE, seconds: float = math.inf) -> Outcome:
    """Call every public endpoint with each value in each place, in an order by chance."""
    outcome = Outcome(f"every endpoint × hostile values (seed {SEED})")
    kinds: Counter[str] = Counter()
    with httpx.Client(timeout=PATIENCE) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        order = list(calls(client, app.url, app.upload(*PAIR), values))
        random.Random(SEED).shuffle(order)
        rows = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
        for row in within(rows, seconds):
            answers = pool.map(lambda call: ask(client, app.url, *call[:2]), row)
            for (name, _, label), (status, answer) in zip(row, answers, strict=True):
                outcome.expect(is_clean(status, answer), f"{name} {label}: {status} {answer[:200]}")
                kinds["answered" if status == "complete" else "refused"] += 1
    outcome.expect("Traceback" not in app.log.read_text(), "the log has a traceback")
    outcome.figures = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    return outcome


def calls(
    client: httpx.Client, url: str, files: list[dict[str, Any]], values: tuple[Any, ...]
) -> Iterator[tuple[str, list[Any], str]]:
    """Endpoint, arguments and what is hostile about them."""
    endpoints = client.get(f"{url}gradio_api/info").json()["named_endpoints"]
    for name, about in endpoints.items():
        parameters = about["parameters"]
        usual = [usual_value(parameter, files) for parameter in parameters]
        for place, parameter in enumerate(parameters):
            long = LONG.get(parameter["parameter_name"], ())
            for value in (one for one in values if type(one) is bool or one not in long):
                changed = [*usual[:place], value, *usual[place + 1 :]]
                yield name, changed, f"{parameter['parameter_name']}={value!r:.40}"
        for count in (0, 1, len(usual) + 1, 200):
            yield name, (usual * 200)[:count], f"{count} arguments"


def usual_value(parameter: dict[str, Any], files: list[dict[str, Any]]) -> Any:
    """A cheap value for an argument."""
    name = parameter["parameter_name"]
    given = {"files": files, "file": files[0], "prompt": "a cat", **QUICK}
    return given.get(name, parameter.get("parameter_default"))


def ask(client: httpx.Client, url: str, name: str, data: list[Any]) -> tuple[str, str]:
    """How a call ends (complete, error, lost, or an HTTP status), and its text."""
    try:
        return _ask(client, url, name, data)
    except httpx.HTTPError as error:
        return "lost", repr(error)


def _ask(client: httpx.Client, url: str, name: str, data: list[Any]) -> tuple[str, str]:
    body = json.dumps({"data": data})  # with NaN, as hostile clients write it
    kind = {"content-type": "application/json"}
    sent = client.post(f"{url}gradio_api/call{name}", content=body, headers=kind)
    if sent.status_code != 200:
        return str(sent.status_code), sent.text
    event = sent.json()["event_id"]
    text = client.get(f"{url}gradio_api/call{name}/{event}").text
    ends = re.findall(r"event: (complete|error)\ndata: (.*)", text)
    return ends[-1] if ends else ("none", text)


def is_clean(status: str, answer: str) -> bool:
    """Whether an answer is a result, or one sentence without anything of the server in it."""
    if status == "complete":
        return True
    said = str(json.loads(answer)["error"] or "") if status == "error" else answer
    internal = "internal error" in said or not SENTENCE.search(said)
    return status in ("error", "404", "413", "422") and not internal and not SECRET.search(said)
