"""The settings of the app, declared once and read when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

from app.settings.setting import setting, settings_of
from merging.base_models import BASE_MODELS
from merging.options import DEVICES, Precision

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOME = "~/.iteris-studio"

# The sections of the page's settings.
MODEL = "The base model at first, and where it works"
PLACES = "Folders and address"
FILES = "Limits of files"
JOBS = "Limits of jobs and visits"
SECTIONS = (MODEL, PLACES, FILES, JOBS)


def folder(text: str | Path) -> Path | None:
    """The folder that a setting names, None for "off"."""
    return None if str(text).lower() == "off" else Path(text).expanduser().resolve()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the app; the defaults suit one person at their own machine.

    A field made by ``setting`` is read from its environment variable, its flag and settings.toml,
    and is shown on the page, all by this one declaration.
    """

    base: str = setting(
        "mini",
        "ITERIS_BASE",
        MODEL,
        "Base model",
        "mini, sd15, a folder in diffusers layout, a .safetensors checkpoint, or a Hub id",
        offered=tuple(BASE_MODELS),
    )
    device: str = setting(
        "auto",
        "ITERIS_DEVICE",
        MODEL,
        "Device",
        "auto takes the best that is there",
        offered=DEVICES,
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",  # a missing device is noticed when it is used
    )
    precision: Precision = setting(
        "auto", "ITERIS_PRECISION", MODEL, "Precision", "auto is fp32 on a CPU, fp16 elsewhere"
    )
    executor: Literal["local", "ray", "zerogpu"] = setting(
        "local",
        "ITERIS_EXECUTOR",
        MODEL,
        "Where jobs run",
        "on this machine, on a Ray cluster, or on a ZeroGPU Space",
    )
    ray_address: str = setting(
        "",
        "ITERIS_RAY_ADDRESS",
        MODEL,
        "Address of the Ray cluster",
        "host:port of its head",
        unset="one of this machine alone",
    )
    slots: int = setting(
        1,
        "ITERIS_SLOTS",
        MODEL,
        "Jobs at the same time",
        "beyond one, each has a process and a base model of its own",
        low=1,
        high=64,
    )
    mcp: bool = setting(
        False,
        "ITERIS_MCP",
        MODEL,
        "Tools for language models",
        "on lets them call the endpoints",
    )
    home: Annotated[Path | None, BeforeValidator(folder)] = setting(
        None,
        "ITERIS_HOME",
        PLACES,
        "Folder of library and history",
        "off for none; a public app has none",
        unset=HOME,
    )
    work: Annotated[Path, BeforeValidator(folder)] = setting(
        MISSING,
        "ITERIS_WORK",
        PLACES,
        "Folder of visitors’ files",
        "a named one is not removed at the end",
        unset="a temporary one",
    )
    host: str = setting(
        "127.0.0.1",
        "GRADIO_SERVER_NAME",
        PLACES,
        "Address",
        "any but this machine’s own makes the app public too",
    )
    public: bool = setting(
        False,
        "ITERIS_PUBLIC",
        PLACES,
        "For everybody",
        "on behind a reverse proxy: visitors then share nothing, and this section is gone",
    )
    hosts: str = setting(
        "",
        "ITERIS_HOSTS",
        PLACES,
        "Names of the app",
        "host names, separated by commas, beside this machine’s own",
        unset="none",
    )
    proxies: int = setting(
        0,
        "ITERIS_PROXIES",
        PLACES,
        "Reverse proxies in front",
        "each of them adds the address that it saw to X-Forwarded-For",
        low=0,
        high=8,
    )
    root_path: str = setting(
        "",
        "GRADIO_ROOT_PATH",
        PLACES,
        "Path below the host name",
        "where a reverse proxy has the app under /studio, say",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        unset="none",
    )
    port: int = setting(7860, "GRADIO_SERVER_PORT", PLACES, "Port", low=1, high=65535)
    metrics: bool = setting(
        False,
        "ITERIS_METRICS",
        PLACES,
        "Figures for Prometheus",
        "on answers /metrics to whoever asks",
    )
    logs: Literal["text", "json"] = setting(
        "text",
        "ITERIS_LOGS",
        PLACES,
        "Form of the log",
        "json is an object a line, for a collector",
    )
    max_files: int = setting(6, "ITERIS_MAX_FILES", FILES, "LoRAs of one merge", low=2, high=16)
    max_mb: int = setting(400, "ITERIS_MAX_MB", FILES, "MB of one file", low=1, high=4000)
    max_history_mb: int = setting(
        10_000,
        "ITERIS_MAX_HISTORY_MB",
        FILES,
        "MB of the history",
        "beyond it the oldest go first",
        low=1,
        high=10_000_000,
    )
    max_client_mb: int = setting(
        4000,
        "ITERIS_MAX_CLIENT_MB",
        FILES,
        "MB of one visitor",
        "of a public app",
        low=1,
        high=10_000_000,
    )
    max_work_mb: int = setting(
        40_000, "ITERIS_MAX_WORK_MB", FILES, "MB of all visitors", low=1, high=10_000_000
    )
    min_free_mb: int = setting(
        200, "ITERIS_MIN_FREE_MB", FILES, "MB of the disk that stay free", low=0, high=10_000_000
    )
    max_waiting: int = setting(
        20, "ITERIS_MAX_WAITING", JOBS, "Jobs in line", "of all visitors", low=1, high=1000
    )
    max_client_jobs: int = setting(
        3,
        "ITERIS_MAX_CLIENT_JOBS",
        JOBS,
        "Jobs of one visitor in line",
        "of a public app; the one at work counts",
        low=1,
        high=1000,
    )
    max_minutes: float = setting(
        60, "ITERIS_MAX_MINUTES", JOBS, "Minutes of one job", low=0.01, high=10_000
    )
    keep_hours: float = setting(
        2,
        "ITERIS_KEEP_HOURS",
        JOBS,
        "Hours that idle files live",
        "of each visitor",
        low=0.01,
        high=10_000,
    )
    # These follow from the settings above, or are fixed.
    free_base: bool = True  # visitors may name a folder or a Hub id as base: at home only
    login: bool = False  # visitors may log in to the Hub: on a Space that has hf_oauth
    max_words: int = 4  # textual inversions beside the LoRAs
    max_prompt: int = 500  # characters of a prompt
    max_scenes: int = 16  # prompts × seeds of one comparison
    max_batch: int = 24  # merges of one batch, and of one search for strengths
    max_references: int = 16  # pictures of one concept to compare with
    max_lines: int = 64  # a visitor's calibration prompts, of at most max_line characters
    max_line: int = 200
    file: Path | None = None  # settings.toml, where the page may write it: at home only
    above: Mapping[str, str] = field(default_factory=dict)  # what overrides it, by name

    @property
    def private(self) -> bool:
        """Whether the app is for the person at this machine alone."""
        return self.host in LOOPBACK and not self.public

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that visitors may choose; ZeroGPU has the base model ready in one alone."""
        return (self.precision,) if self.executor == "zerogpu" else get_args(Precision)

    @property
    def host_names(self) -> tuple[str, ...]:
        """``hosts`` as a list, in lower case."""
        return tuple(name.strip().lower() for name in self.hosts.split(",") if name.strip())

    @classmethod
    def from_environment(cls, work: Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from environment variables; MergeError names a wrong one."""
        host = environ.get("GRADIO_SERVER_NAME") or cls.host
        values = {
            name: declared.read(environ[declared.variable])
            for name, declared in SETTINGS.items()
            if environ.get(declared.variable, "").strip()
        }
        values["public"] = values.get("public", cls.public) or "SPACE_ID" in environ
        at_home = host in LOOPBACK and not values["public"]
        values["work"] = work
        values["home"] = values.get("home", folder(HOME)) if at_home else None
        login = {"SPACE_ID", "OAUTH_CLIENT_ID"} <= environ.keys()
        return cls(**values, free_base=at_home, login=login)


SETTINGS = settings_of(Settings)  # by name
