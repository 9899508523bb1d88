"""The Dockerfile without Docker: buildah builds it, on Debian in place of the base image.

buildah isolates by chroot alone, so root is enough, and no daemon is needed. What this machine's
pip is set to (indexes, folders of packages, certificates) holds while the image is built.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOOLS = ("buildah", "debootstrap", "unshare", "chroot")
# python:3.11-slim-bookworm is Debian 12 with Python 3.11 as `python`, and so is this.
DEBIAN = "bookworm"
PACKAGES = "python3,python3-pip,python-is-python3,ca-certificates"
BASE, IMAGE = "localhost/debian", "localhost/studio"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
# The container's root, read-only, with a /tmp of its own; it goes when the command ends. As Docker
# does, the names of hosts come from outside.
READ_ONLY = """
touch "$0/etc/hosts" && mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" &&
mount -t tmpfs tmp "$0/tmp" && mount --bind /etc/hosts "$0/etc/hosts" &&
mount --bind /proc "$0/proc" && mount --bind /dev "$0/dev" &&
exec chroot --userspec=1000:1000 "$0" "$@"
"""


def missing() -> str:
    """Why no image can be built here; "" if one can."""
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"{', '.join(absent)} not installed"
    return "" if os.geteuid() == 0 else "not root"


def run(*command: str | Path, **options: Any) -> str:
    """What a command prints; AssertionError with what it complains about."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


class Builder:
    """buildah, with all that it keeps below one folder."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", folder / "store", "--runroot", folder / "run"]

    def __call__(self, *arguments: str | Path) -> str:
        """Run one of its commands."""
        return run("buildah", *self._options, "--storage-driver", "vfs", *arguments)

    def base(self, debian: Path) -> None:
        """Make the image BASE, by way of a folder with Debian."""
        debootstrap(debian)
        container = self("from", "scratch")
        self("add", container, debian, "/")
        self("commit", "--rm", container, BASE)

    def build(self, context: Path) -> None:
        """Make IMAGE by the context's Dockerfile, on BASE."""
        settings, folders = pip_settings()
        dockerfile = (context / "Dockerfile").read_text("utf-8")
        (context / "Dockerfile").write_text(with_base(dockerfile, settings))
        volumes = [f"--volume={folder}:{folder}:ro" for folder in folders]
        options = ["--isolation=chroot", "--format=docker", "--pull=false", *volumes]
        self("bud", *options, "--build-arg=TORCH_INDEX=", "-t", IMAGE, context)


def debootstrap(folder: Path) -> None:
    """Debian with Python in a folder, and this machine's certificates."""
    if not folder.exists():
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, folder)
    for mark in folder.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    shutil.copyfile(Path("/") / CERTIFICATES, folder / CERTIFICATES)


def pip_settings() -> tuple[dict[str, str], list[Path]]:
    """This machine's pip as environment variables, and the folders that they name."""
    settings: dict[str, str] = {}
    for line in run("pip", "config", "list").splitlines():
        name, value = line.split("=", 1)
        variable = "PIP_" + name.split(".", 1)[1].strip(".").upper().replace("-", "_")
        settings[variable] = value.strip("'\"")
    words = " ".join(settings.values()).replace("file://", "").split()
    tops = {Path(*Path(word).parts[:2]) for word in words if Path(word).is_absolute()}
    return settings, sorted(top for top in tops if top.name != "etc" and top.is_dir())


def with_base(dockerfile: str, settings: dict[str, str]) -> str:
    """The Dockerfile with another base image, and settings for pip while it is built."""
    settings = {name: value for name, value in settings.items() if "constraint" not in name.lower()}
    lines = "".join(f'ARG {name}="{value}"\n' for name, value in settings.items())
    before, after = dockerfile.split("FROM python:3.11-slim-bookworm\n")
    return f"{before}FROM {BASE}\n{lines}{after}"


@contextmanager
def running(root: Path, config: dict[str, Any], port: int) -> Iterator[subprocess.Popen[str]]:
    """The image's command as uid 1000 on a root that cannot be written."""
    command = inside(root, config["WorkingDir"], config["Cmd"])
    with subprocess.Popen(
        command, env=environ(config, port), stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def environ(config: dict[str, Any], port: int) -> dict[str, str]:
    """The image's variables, with another port."""
    variables = dict(pair.split("=", 1) for pair in config["Env"])
    return variables | {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}


def inside(root: Path, folder: str, command: Sequence[str]) -> list[str]:
    """A command as the container runs it."""
    shell = 'cd "$0" && exec "$@"'
    return [
        *("unshare", "--mount", "sh", "-c", READ_ONLY, str(root)),
        *("sh", "-c", shell, folder, *command),
    ]


def config_of(builder: Builder) -> dict[str, Any]:
    """What the image says of how it is run."""
    return dict(json.loads(builder("inspect", "--type=image", IMAGE))["Docker"]["config"])
