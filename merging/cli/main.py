"""IterIS Studio on the command line: several Stable Diffusion 1.5 LoRAs in, one adapter out.

Results go to standard output (one JSON object with --json), progress to standard error.
Exit status: 0 done, 2 bad input, 1 a fault of this program.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from pkgutil import resolve_name

from merging.cli.parser import CommandParser, Parser
from merging.errors import MergeError

# What each command does, and the function in this package (module:name) that adds its options and
# sets what to run. Only the module of the command in use is imported: torch takes seconds.
COMMANDS = {
    "inspect": ("What each file is.", "inspect:add_inspect"),
    "merge": ("Files in, one adapter file out.", "merge:add_merge"),
    "tune": ("Strengths for a merge, by search against a judge.", "tune:add_tune"),
    "batch": (
        "Several methods and strengths at once: one zip with files, recipes and a summary.",
        "batch:add_batch",
    ),
    "conflicts": (
        "Where every two of some LoRAs get in each other's way, block by block.",
        "conflicts:add_conflicts",
    ),
    "convert": (
        "An adapter of any family as a LoRA that every program loads, or as diffusers' own.",
        "convert:add_convert",
    ),
    "carry": (
        "A LoRA of one base model for another of the same architecture.",
        "carry:add_carry",
    ),
    "pack": (
        "Many LoRAs of one base in one file, in directions that they share.",
        "pack:add_pack",
    ),
    "unpack": ("One LoRA of a pack as a file again, or what is in a pack.", "pack:add_unpack"),
    "replay": (
        "A merged file once more, from the recipe inside it and the same inputs.",
        "replay:add_replay",
    ),
    "verify": (
        "Whether the inputs that a merged file names are at hand, unaltered.",
        "verify:add_verify",
    ),
    "render": ("Prompts in, PNG files out.", "render:add_render"),
    "methods": ("The table of methods.", "methods:add_methods"),
    "ranks": (
        "What an adapter loses at smaller ranks, and the size of its file.",
        "ranks:add_ranks",
    ),
    "evaluate": (
        "How well: the embedded base and its LoRAs, or the contest of ways to combine concepts.",
        "evaluate:add_evaluate",
    ),
    "bench": (
        "How fast: a merge beside its limit (mini, sd15 in shape), growth, beside peft; pictures.",
        "bench:add_bench",
    ),
}
EXAMPLES = """Examples:
  %(prog)s merge cat.safetensors dog.safetensors --out both.safetensors
  %(prog)s merge --help"""
SIGPIPE_STATUS = 141  # a shell's status for a program whose reader has gone: 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, since an error at the interpreter's exit cannot be caught
    except BrokenPipeError:
        return _silence_output()


def _run(arguments: Sequence[str]) -> int:
    try:
        options = command_parser(arguments).parse_args(arguments)
        options.command_line = shlex.join(["python", "-m", "merging", *arguments])
        answer, text = options.run(options, _progress)
    except MergeError as error:
        print(f"error: {error}", file=sys.stderr)
        if "--json" in arguments:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return 2
    print(
        json.dumps(answer, default=asdict, ensure_ascii=False, indent=2) if options.json else text
    )
    return 0


def _silence_output() -> int:
    """Discard further output: its reader has gone, as ``| head`` does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return SIGPIPE_STATUS


def _progress(share: float, text: str) -> None:
    print(f"\r{share:4.0%} {text:<60}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def command_parser(arguments: Sequence[str]) -> Parser:
    """All commands with their summaries; options only of the command in use."""
    program = "iteris" if Path(sys.argv[0]).stem == "iteris" else "python -m merging"
    parser = Parser(prog=program, description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(
        required=True, title="Commands", metavar="COMMAND", parser_class=CommandParser
    )
    command = next((name for name in arguments if name in COMMANDS), "")
    for name, (summary, options) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == command:
            resolve_name(f"merging.cli.{options}")(sub)
            sub.experts.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
