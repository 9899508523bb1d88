"""``python -m tests.attack [--short | --full] [--seconds N] [ROW …]``: attacks on this machine.

Prints a table of the rows, all unless some are named; without ``--short``, each is put into the
table of docs/security.md when it is done. What is repeated stops after a time, with ``--full``
after all tries alone; ``--seconds N`` sets the time. The exit status is 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.attack.counts import FULL, SHORT, USUAL
from tests.attack.outcome import HEAD, Outcome
from tests.attack.rows import NAMES, outcomes
from tests.attack.running import ROOT

PAGE = ROOT / "docs" / "security.md"
MARKS = ("<!-- attacks -->\n", "<!-- /attacks -->")


def put(outcome: Outcome, page: Path = PAGE) -> None:
    """Put a row into the page's table, in place of the one with its name."""
    before, _, rest = page.read_text("utf-8").partition(MARKS[0])
    table, _, after = rest.partition(MARKS[1])
    rows = {name_of(line): line for line in table.removeprefix(HEAD).splitlines()}
    rows[outcome.name] = outcome.row
    ordered = [rows[name] for name in NAMES if name in rows]
    text = HEAD + "".join(f"{row}\n" for row in ordered)
    page.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", "utf-8")


def name_of(row: str) -> str:
    """The name in a row of the table."""
    return row.split("|")[1].strip(" `")


def main() -> int:
    """Run the attacks that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--short", action="store_true", help="few tries of each attack")
    sizes.add_argument("--full", action="store_true", help="all tries, however long they take")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop repeating after N seconds")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(NAMES)}")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(NAMES):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    counts = SHORT if options.short else FULL if options.full else USUAL
    if options.seconds is not None:
        size = f"{counts.size}, {options.seconds:g} s"
        counts = replace(counts, size=size, seconds=options.seconds)
    failed = False
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        for outcome in outcomes(options.rows or NAMES, Path(folder), counts):
            failed |= bool(outcome.failures)
            print(outcome.row, flush=True)
            for failure in outcome.failures[:20]:
                print(f"  {failure}", flush=True)
            if not options.short:
                put(outcome)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
