"""What can be set from outside: environment variables, read once at the start."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from merging.errors import MergeError
from merging.options import Precision

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Settings:
    """Defaults suit one person at their own machine; ``from_environment`` reads the rest."""

    work: Path  # the folder of all visitors' files, see workplace()
    home: Path | None = None  # ITERIS_HOME: what stays, such as the library; at home only
    host: str = "127.0.0.1"  # GRADIO_SERVER_NAME
    port: int = 7860  # GRADIO_SERVER_PORT
    base: str = "mini"  # ITERIS_BASE: mini, sd15, a folder in diffusers layout, or a Hub id
    free_base: bool = True  # visitors may name a folder or a Hub id: at home only
    device: str = "auto"  # ITERIS_DEVICE: auto, cpu, cuda, mps
    precision: str = "auto"  # ITERIS_PRECISION, of the base model: auto, fp32, fp16, bf16
    mcp: bool = False  # ITERIS_MCP: whether language models may call the endpoints as tools
    login: bool = False  # visitors may log in to the Hub: on a Space that has hf_oauth
    max_files: int = 6  # ITERIS_MAX_FILES: LoRAs of one merge
    max_words: int = 4  # textual inversions beside them
    max_megabytes: int = 400  # ITERIS_MAX_MB: of one file
    max_history_mb: int = 10_000  # ITERIS_MAX_HISTORY_MB: of one history's files
    max_waiting: int = 20  # ITERIS_MAX_WAITING: jobs in line, of all visitors
    max_minutes: float = 60  # ITERIS_MAX_MINUTES: of one job
    keep_hours: float = 2  # ITERIS_KEEP_HOURS: how long a visitor's idle files live
    max_prompt: int = 500  # characters of a prompt
    max_scenes: int = 16  # prompts × seeds of one comparison
    max_batch: int = 24  # merges of one batch
    max_references: int = 16  # pictures of one concept to compare with
    max_lines: int = 64  # calibration prompts of a person's own, each of at most 200 characters
    max_line: int = 200
    file: Path | None = None  # settings.toml, where the page may write it: at home only
    above: Mapping[str, str] = field(default_factory=dict)  # what goes before it, by its names

    @classmethod
    def from_environment(cls, work: Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from the variables named above; MergeError says which one is wrong."""
        host = environ.get("GRADIO_SERVER_NAME") or cls.host
        at_home = host in LOOPBACK and "SPACE_ID" not in environ
        return cls(
            work=work,
            home=_home(environ) if at_home else None,
            host=host,
            port=_whole(environ, "GRADIO_SERVER_PORT", cls.port, 1, 65535),
            base=environ.get("ITERIS_BASE") or cls.base,
            free_base=at_home,
            device=_device(environ),
            precision=_one_of(environ, "ITERIS_PRECISION", get_args(Precision)),
            mcp=_one_of(environ, "ITERIS_MCP", ("off", "on")) == "on",
            login={"SPACE_ID", "OAUTH_CLIENT_ID"} <= environ.keys(),
            max_files=_whole(environ, "ITERIS_MAX_FILES", cls.max_files, 2, 16),
            max_megabytes=_whole(environ, "ITERIS_MAX_MB", cls.max_megabytes, 1, 4000),
            max_history_mb=_whole(
                environ, "ITERIS_MAX_HISTORY_MB", cls.max_history_mb, 1, 10_000_000
            ),
            max_waiting=_whole(environ, "ITERIS_MAX_WAITING", cls.max_waiting, 1, 1000),
            max_minutes=_number(environ, "ITERIS_MAX_MINUTES", cls.max_minutes, 0.01, 10_000),
            keep_hours=_number(environ, "ITERIS_KEEP_HOURS", cls.keep_hours, 0.01, 10_000),
        )


@contextmanager
def workplace(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """The folder of all visitors' files: ITERIS_WORK, or one that is removed in the end."""
    named = environ.get("ITERIS_WORK")
    if named:
        yield Path(named).resolve()
    else:
        with tempfile.TemporaryDirectory(
            prefix="iteris-studio-", ignore_cleanup_errors=True
        ) as own:
            yield Path(own)


def _home(environ: Mapping[str, str]) -> Path | None:
    """The folder of what stays on a person's own machine: ITERIS_HOME, "off" for none."""
    named = environ.get("ITERIS_HOME", "").strip()
    if named.lower() == "off":
        return None
    return Path(named).expanduser().resolve() if named else Path.home() / ".iteris-studio"


def _one_of(environ: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """A word from the environment, the first of the choices where it says none."""
    text = environ.get(name, "").strip().lower() or choices[0]
    if text not in choices:
        raise MergeError(f"{name} must be {', '.join(choices)}, not {text!r}.")
    return text


def _device(environ: Mapping[str, str]) -> str:
    """The name of a device; whether it is there is seen when it is first needed."""
    text = environ.get("ITERIS_DEVICE", "").strip().lower() or Settings.device
    if not DEVICES.fullmatch(text):
        raise MergeError(f"ITERIS_DEVICE must be auto, cpu, cuda or mps, not {text!r}.")
    return text


def _whole(environ: Mapping[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    """A number without a fraction."""
    value = _number(environ, name, default, lowest, highest)
    if not value.is_integer():
        raise MergeError(f"{name} must be a whole number, not {value:g}.")
    return int(value)


def _number(
    environ: Mapping[str, str], name: str, default: float, lowest: float, highest: float
) -> float:
    """A number from the environment, refused by name when it is none or out of range."""
    text = environ.get(name, "").strip()
    try:
        value = float(text or default)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise MergeError(f"{name} must be a number from {lowest:g} to {highest:g}, not {text!r}.")
    return value
