"""The app's own line under many visitors: ``python -m tests.app.jobs.simulate_line``.

Prints the table of docs/scale.md. Only time is simulated: places, turns and refusals are those of
`Line`. A visitor thinks for some minutes, orders a job, waits, and thinks again; one in ten always
has as many jobs in line as a visitor may. Who is refused comes back some minutes later.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from app.jobs.line import Line, Place
from merging.errors import MergeError

SLOTS, VISITORS = (1, 8, 64), (10, 100, 1000, 10_000)
JOB = 61.7  # seconds of a merge with its pictures on two cores, from docs/benchmarks.md
THOUGHT, PAUSE, RETRY = 600.0, 5.0, 300.0  # mean seconds: of most, of the eager, after a refusal
WAITING = 20, 400  # places in line: for each slot, and at most (max_waiting)
MOST = 3  # jobs of one visitor: max_client_jobs
HOURS = 2.0
COLOURS, LEAST = ("#c0392b", "#7a3fd9", "#1e8449"), 0.05  # of the plot: a wait below is none


@dataclass
class Outcome:
    """What the visitors of one run met with."""

    waits: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    refused: int = 0
    orders: int = 0
    busy: float = 0.0  # seconds of all slots at work

    def cells(self, slots: int) -> Iterator[str]:
        """Those of the table: minutes of most visitors, then of the eager ones."""
        yield f"{self.busy / (3600 * HOURS * slots):.0%}"
        for eager in (False, True):
            waits = self.waits[eager]
            late = quantiles(waits, n=20)[-1] if len(waits) > 1 else 0.0
            yield f"{median(waits) / 60:.1f}, {late / 60:.1f}" if waits else "–"
        yield f"{self.refused / self.orders:.0%}"


def simulate(slots: int, visitors: int, job: float = JOB, seed: int = 0) -> Outcome:
    """HOURS of the line with so many slots and visitors, and jobs of so many seconds."""
    line = Line(slots, min(WAITING[0] * slots, WAITING[1]), MOST)
    chance, outcome = random.Random(seed), Outcome()
    events: list[tuple[float, int, str, Place | None]] = []  # time, number, client, place that ends
    joined: dict[Place, float] = {}

    def plan(time: float, client: str, place: Place | None = None) -> None:
        heapq.heappush(events, (time, len(joined) + chance.getrandbits(40), client, place))

    def think(time: float, client: str) -> None:
        plan(time + chance.expovariate(1 / (PAUSE if eager(client) else THOUGHT)), client)

    def order(time: float, client: str) -> None:
        outcome.orders += 1
        try:
            place = line.join(f"{client}-{outcome.orders}", client)
        except MergeError:
            outcome.refused += 1
            plan(time + chance.expovariate(1 / RETRY), client)
        else:
            joined[place] = time
            begin(time)

    def begin(time: float) -> None:
        while (waiting := line.waiting) and line.begin(waiting[0]):
            place = waiting[0]
            outcome.waits[eager(place.client)].append(time - joined.pop(place))
            outcome.busy += min(job, 3600 * HOURS - time)
            plan(time + job, place.client, place)

    for number in range(visitors):
        client = f"{number}"
        for _ in range(MOST if eager(client) else 1):
            think(0.0, client)
    while events and (event := heapq.heappop(events))[0] < 3600 * HOURS:
        time, _, client, place = event
        if place:
            line.leave(place)
            begin(time)
            think(time, client)
        else:
            order(time, client)
    return outcome


def eager(client: str) -> bool:
    """One visitor in ten."""
    return client.endswith("0")


def plot(outcomes: dict[tuple[int, int], Outcome], file: Path) -> None:
    """The 95 % quantile of the minutes in line, by visitors: of most, and dashed of the eager."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    for slots, colour in zip(SLOTS, COLOURS, strict=True):
        for eager, style in ((False, "o-"), (True, "o--")):
            waits = [outcomes[slots, visitors].waits[eager] for visitors in VISITORS]
            late = [max(quantiles(each, n=20)[-1] / 60, LEAST) for each in waits]
            who = "eager" if eager else f"{slots} slot" + "s" * (slots > 1)
            axes.loglog(VISITORS, late, style, color=colour, label=who)
    axes.set(xlabel="visitors", ylabel="minutes in line, 95 % quantile")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    with rc_context({"svg.hashsalt": "waits"}):  # the same bytes each time
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Print the table, and draw the plot if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="a file for the plot, such as waits.svg")
    parser.add_argument("--job", type=float, default=JOB, help="seconds of a job")
    options, outcomes = parser.parse_args(), dict[tuple[int, int], Outcome]()
    titles = ["slots", "visitors", "slots at work", "minutes in line: median, 95 %"]
    titles += ["the same of eager visitors", "refused"]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    for slots in SLOTS:
        for visitors in VISITORS:
            outcome = outcomes[slots, visitors] = simulate(slots, visitors, options.job)
            print(f"| {slots} | {visitors} | {' | '.join(outcome.cells(slots))} |", flush=True)
    if options.plot:
        plot(outcomes, options.plot)


if __name__ == "__main__":
    main()
