"""Settings beside the environment's: flags, which go before it, and settings.toml under it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.settings.model import Settings
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
        description="Serve the page. docs/settings.md says what each flag means.",
    )
    for name, variable in VARIABLES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=variable, metavar="VALUE", help=f"in place of {variable}")
    given = vars(parser.parse_args(arguments))
    return {variable: value for variable, value in given.items() if value is not None}


def with_file(environ: Mapping[str, str], file: Path = FILE) -> dict[str, str]:
    """The environment, and under it what the file says; MergeError for a name that is none."""
    return {VARIABLES[name]: text for name, text in read(file).items()} | dict(environ)


def read(file: Path = FILE) -> dict[str, str]:
    """What the file says, by its own names; nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        return parsed(file.read_text(encoding="utf-8"), file)
    except (OSError, ValueError) as error:
        raise MergeError(f"{file} cannot be read ({error}); correct or remove it.") from error


def parsed(text: str, file: Path) -> dict[str, str]:
    """What a file's text says; ValueError if it is no TOML, MergeError for a name that is none."""
    told = tomllib.loads(text)
    for name, value in told.items():
        if name not in VARIABLES or isinstance(value, bool | dict | list):
            raise MergeError(
                f"{file}: “{name}” is no setting with one value; there are {', '.join(VARIABLES)}."
            )
    return {name: str(value) for name, value in told.items()}


def check(name: str, text: str) -> None:
    """MergeError, as the start would say it, if the setting ``name`` cannot be ``text``."""
    try:
        Settings.from_environment(Path(), {VARIABLES[name]: text})
    except MergeError as error:
        raise MergeError(str(error).replace(VARIABLES[name], name)) from error


def with_page(settings: Settings, above: Mapping[str, str], file: Path = FILE) -> Settings:
    """The same, with the file for the page to write, at home only; ``above`` goes before it."""
    if not settings.free_base:
        return settings
    fixed = {name: above[variable] for name, variable in VARIABLES.items() if variable in above}
    return replace(settings, file=file, above=fixed)
