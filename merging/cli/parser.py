"""The parser of a command: options in three groups, each with its default; errors in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, NoReturn

from merging.errors import MergeError

FLAG = re.compile(r"--[a-z][\w-]*")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Says the default of every option that has one; examples keep their lines."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if "default: " in text or action.required or not action.option_strings:
            return text
        if action.nargs == 0:
            return text if "--help" in action.option_strings else f"{text} (default: no)"
        return text + " (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with what was meant, and no usage above it."""

    def __init__(self, **about: Any) -> None:
        super().__init__(formatter_class=HelpFormatter, **about)

    def error(self, message: str) -> NoReturn:
        """MergeError with the line."""
        raise MergeError(f"{message} ({self.prog} --help shows what there is)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice; argparse itself does not guess what was meant."""
        if action.choices is not None and value not in action.choices:
            meant = did_you_mean(str(value), map(str, action.choices))
            listed = meant or f"; there are {', '.join(map(str, action.choices))}"
            raise argparse.ArgumentError(action, f"there is no {value!r}{listed}")


class OptionParser(Parser):
    """A parser that knows which option was meant."""

    def parse_known_args(  # type: ignore[override] # argparse's overloads say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse unknown options first: argparse would complain of what they were to set."""
        flags = self._option_string_actions
        for flag in flags_in(sys.argv[1:] if args is None else args):
            if not any(known.startswith(flag) for known in flags):
                self.error(f"there is no option {flag}{did_you_mean(flag, flags)}")
        return super().parse_known_args(args, namespace)


class CommandParser(OptionParser):
    """The options of one command, by who needs them."""

    def __init__(self, **about: Any) -> None:
        super().__init__(add_help=False, **about)
        self.essentials = self.add_argument_group("Essentials")
        self.files = self.add_argument_group("Files")
        self.experts = self.add_argument_group("Experts")
        self.essentials.add_argument("-h", "--help", action="help", help="show this help and end")
        self.examples: tuple[str, ...] = ()

    def describe(self, arguments: str, *examples: str) -> None:
        """Say what comes after the command: in one line, and in examples that can be typed."""
        self.usage = f"%(prog)s {arguments}"
        self.examples = examples
        self.epilog = "\n".join(["Examples:", *(f"  %(prog)s {line}" for line in examples)])

    def add_weights_base(self) -> None:
        """Add the base model of commands that need one for few files only."""
        text = "base model, for families that depend on its weights (default: none)"
        self.files.add_argument("--base", help=text)


def flags_in(arguments: Iterable[str]) -> list[str]:
    """The long options among arguments, without their values; none after a lone ``--``."""
    words = takewhile(lambda word: word != "--", arguments)
    flags = (word.partition("=")[0] for word in words)
    return [flag for flag in flags if FLAG.fullmatch(flag)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, as the end of a sentence; "" if none is alike."""
    candidates: Collection[str] = list(known)
    alike = get_close_matches(word, candidates, n=1)
    return f"; did you mean {alike[0]}?" if alike else ""
