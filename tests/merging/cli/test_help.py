"""What every command says of itself, and of arguments that it does not know."""

from __future__ import annotations

import argparse
import shlex

import pytest

from app.settings.load import flags
from merging.cli.main import COMMANDS, command_parser, main
from merging.cli.parser import CommandParser
from merging.errors import MergeError
from tests.merging.cli.commands import refused

GROUPS = ("Essentials", "Files", "Experts")


def parser_of(command: str) -> CommandParser:
    parser = command_parser([command])
    (commands,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return commands.choices[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_group_a_sentence_and_its_default(command: str) -> None:
    parser = parser_of(command)
    groups = {group.title: group._group_actions for group in parser._action_groups}
    assert [title for title, actions in groups.items() if actions and title not in GROUPS] == []
    formatter = parser._get_formatter()
    for action in parser._actions:
        text = formatter._expand_help(action)
        name = action.option_strings or action.dest
        assert len(text.split()) > 1, f"{command} {name} is not explained"
        if action.option_strings and not action.required and "--help" not in name:
            assert "default: " in text, f"{command} {name} has no default"
            assert "default: None" not in text, f"{command} {name}: what happens without it?"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_are_commands(command: str) -> None:
    examples = parser_of(command).examples
    assert len(examples) == 2
    for example in examples:
        words = [command, *shlex.split(example)]
        assert command_parser(words).parse_args(words).run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_option_is_named_in_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where what it was to set is missing now."""
    flags = [flag for flag in parser_of(command)._option_string_actions if flag.startswith("--")]
    for flag in flags:
        wrong = f"{flag}x"
        line = refused(capsys, command, wrong, "value")
        assert line.startswith(f"there is no option {wrong}; did you mean {flag}? (")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["merg"], "argument COMMAND: there is no 'merg'; did you mean merge?"),
        ([], "the following arguments are required: COMMAND"),
        (["merge", "a", "b", "--method", "sumn", "--out", "x"], "'sumn'; did you mean sum?"),
        (["batch", "a", "b", "--methods", "ties", "tvs", "--out", "x"], "did you mean tsv?"),
        (["merge", "a", "b", "--dtype", "int4", "--out", "x"], "there are fp16, bf16, fp32"),
        (["merge", "a", "b", "--samples", "many", "--out", "x"], "'many' is not a number"),
        (["merge", "a", "b"], "the following arguments are required: -o/--out"),
        (["convert", "a", "b", "c"], "unrecognized arguments: c"),
    ],
)
def test_an_error_of_usage_is_one_line(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, *words)


def test_values_are_not_taken_for_options() -> None:
    words = ["render", "--prompt=--a cat", "--out", "x", "--", "--y"]
    with pytest.raises(MergeError, match=r"unrecognized arguments: .*--y"):
        command_parser(words).parse_args(words)
    words = ["render", "--prompt=--a cat", "--out", "x", "--see", "3"]
    assert command_parser(words).parse_args(words).seed == 3


def test_with_json_an_error_of_usage_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "a", "--json", "--out"]) == 2
    assert capsys.readouterr().out.startswith('{"error": "argument -o/--out: expected one argument')


def test_the_page_s_program_knows_its_flags() -> None:
    with pytest.raises(MergeError, match=r"no option --prot; did you mean --port\?"):
        flags(["--prot", "7999"])
