"""What a figure was measured on: processor, threads, versions. One line under every table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "diffusers", "transformers", "peft")


def machine(device: str = "cpu") -> str:
    """Processor, cores, threads and versions as one line, with the GPU if ``device`` is one."""
    gpu = f"{torch.cuda.get_device_name()}, " if device.startswith("cuda") else ""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{gpu}{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    """The name of the CPU on Linux, else the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())
