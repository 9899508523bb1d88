"""The log as text and as JSON, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

from tests.conftest import ROOT

PROGRAM = """
import logging, sys, warnings
import uvicorn
from app.log import start_log
uvicorn.Config(None)  # sets handlers
start_log(sys.argv[1])
log = logging.getLogger("app.here")
log.info("two\\nlines of %s", "“it”")
logging.getLogger("uvicorn.error").warning("slow")
logging.getLogger("httpx").info("a request")
warnings.warn("old")
try:
    {}["gone"]
except KeyError:
    log.exception("no such key")
"""


def said(form: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, form]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_every_line_of_json_is_a_record() -> None:
    records = [json.loads(line) for line in said("json")]
    assert [record["logger"] for record in records] == [
        *("app.here", "uvicorn.error", "py.warnings", "app.here")
    ]
    assert records[0]["message"] == "two\nlines of “it”"
    assert records[0]["level"] == "info"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(records[0]["time"])
    assert timedelta(0) <= age < timedelta(hours=1), "UTC"
    assert "KeyError: 'gone'" in records[-1]["traceback"]


def test_the_text_has_level_and_logger() -> None:
    lines = said("text")
    assert lines[:3] == ["INFO app.here: two", "lines of “it”", "WARNING uvicorn.error: slow"]
    assert "a request" not in " ".join(lines)
