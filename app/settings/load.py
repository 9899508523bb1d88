"""Settings beside the environment's: flags, which go before it, and settings.toml under it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tomlkit

from app.settings.model import SETTINGS, Settings
from merging.errors import MergeError

FILE = Path("settings.toml")  # in the folder where the app is started
VARIABLES = {name: each.variable for name, each in SETTINGS.items()}


def flags(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """What the command line says, by the names of the environment; ends the program for --help."""
    parser = argparse.ArgumentParser(
        prog="iteris-studio" if Path(sys.argv[0]).stem == "iteris-studio" else "python -m app",
        description="Serve the page. What is not given is read from the environment, then from "
        f"{FILE}.",
    )
    for each in SETTINGS.values():
        default = each.unset if each.default == "" else each.default
        text = f"{each.title} ({'; '.join(filter(None, [each.hint, f'default: {default}']))})"
        parser.add_argument(
            each.flag, dest=each.variable, metavar="VALUE", help=f"{text}. Also {each.variable}"
        )
    given = vars(parser.parse_args(arguments))
    return {variable: value for variable, value in given.items() if value is not None}


def with_file(environ: Mapping[str, str], file: Path = FILE) -> dict[str, str]:
    """The environment, and under it what the file says; MergeError if the file is wrong."""
    return {VARIABLES[name]: text for name, text in read(file).items()} | dict(environ)


def read(file: Path = FILE) -> dict[str, str]:
    """The file's settings as text, by name; none where there is no file.

    MergeError for a file that is no TOML, and for a name that is no setting.
    """
    if not file.is_file():
        return {}
    try:
        values = tomlkit.parse(file.read_bytes()).unwrap()
    except (OSError, ValueError) as error:
        raise MergeError(f"{file} cannot be read ({error}); correct or remove it.") from error
    for name, value in values.items():
        if name not in SETTINGS or isinstance(value, bool | dict | list):
            raise MergeError(
                f"{file}: “{name}” is no setting with one value; there are {', '.join(SETTINGS)}."
            )
    return {name: str(value) for name, value in values.items()}


def with_page(settings: Settings, above: Mapping[str, str], file: Path = FILE) -> Settings:
    """The same, with the file for the page to write, at home only; ``above`` goes before it."""
    if not settings.free_base:
        return settings
    fixed = {name: above[variable] for name, variable in VARIABLES.items() if variable in above}
    return replace(settings, file=file, above=fixed)
