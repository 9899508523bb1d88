"""Settings beside the environment's: flags, which go before it, and settings.toml under it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from merging.errors import MergeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path("settings.toml")  # in the folder where the app is started
VARIABLES = {  # name in the file → environment variable, which goes before it
    "base": "ITERIS_BASE",
    "device": "ITERIS_DEVICE",
    "precision": "ITERIS_PRECISION",
    "mcp": "ITERIS_MCP",
    "home": "ITERIS_HOME",
    "work": "ITERIS_WORK",
    "host": "GRADIO_SERVER_NAME",
    "port": "GRADIO_SERVER_PORT",
    "max_files": "ITERIS_MAX_FILES",
    "max_mb": "ITERIS_MAX_MB",
    "max_history_mb": "ITERIS_MAX_HISTORY_MB",
    "max_waiting": "ITERIS_MAX_WAITING",
    "max_minutes": "ITERIS_MAX_MINUTES",
    "keep_hours": "ITERIS_KEEP_HOURS",
}


def flags(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """What the command line says, by the names of the environment; ends the program for --help."""
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Serve the page. The README's table of settings says what each flag means.",
    )
    for name, variable in VARIABLES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=variable, metavar="VALUE", help=f"in place of {variable}")
    given = vars(parser.parse_args(arguments))
    return {variable: value for variable, value in given.items() if value is not None}


def with_file(environ: Mapping[str, str], file: Path = FILE) -> dict[str, str]:
    """The environment, and under it what the file says; MergeError for a name that is none."""
    if not file.is_file():
        return dict(environ)
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MergeError(f"{file} cannot be read ({error}); correct or remove it.") from error
    for name, value in told.items():
        if name not in VARIABLES or isinstance(value, bool | dict | list):
            raise MergeError(
                f"{file}: “{name}” is no setting with one value; there are {', '.join(VARIABLES)}."
            )
    return {VARIABLES[name]: str(value) for name, value in told.items()} | dict(environ)
