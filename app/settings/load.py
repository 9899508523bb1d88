"""Settings from flags, then from the environment, then from settings.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import tomlkit

from app.settings.model import SECTIONS, SETTINGS, Settings
from merging.cli.parser import OptionParser
from merging.errors import MergeError

FILE = Path("settings.toml")  # in the folder where the app is started
VARIABLES = {name: setting.variable for name, setting in SETTINGS.items()}


def flags(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Values of the command line's flags by environment variable; exits for --help.

    MergeError for what is no flag.
    """
    parser = OptionParser(
        prog="iteris-studio" if Path(sys.argv[0]).stem == "iteris-studio" else "python -m app",
        usage="%(prog)s [options]",
        description="Serve the page. What has no flag is read from the environment, then from "
        f"{FILE}.",
        epilog="Examples:\n  %(prog)s --port 7999\n  %(prog)s --base sd15 --device cuda",
    )
    groups = {section: parser.add_argument_group(section) for section in SECTIONS}
    for setting in SETTINGS.values():
        default = setting.unset if setting.default == "" else setting.default
        text = f"{setting.title} ({'; '.join(filter(None, [setting.hint, f'default: {default}']))})"
        text += f". Also {setting.variable}"
        groups[setting.section].add_argument(
            setting.flag, dest=setting.variable, metavar="VALUE", help=text
        )
    values = vars(parser.parse_args(arguments))
    return {variable: value for variable, value in values.items() if value is not None}


def with_file(environ: Mapping[str, str], file: Path = FILE) -> dict[str, str]:
    """The file's settings, overridden by the environment; MergeError if the file is wrong."""
    return {VARIABLES[name]: text for name, text in read(file).items()} | dict(environ)


def read(file: Path = FILE) -> dict[str, str]:
    """The file's settings as text, by name; {} without a file.

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
    """The settings with the file that the page may write, at home only; ``above`` overrides it."""
    if not settings.free_base:
        return settings
    fixed = {name: above[variable] for name, variable in VARIABLES.items() if variable in above}
    return replace(settings, file=file, above=fixed)
