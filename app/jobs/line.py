"""The waiting line: who may begin next. One class for every executor; it knows no threads.

A client is whoever has to share with others, an address or a login; an owner is one visit of a
client. The order is start-time fair queuing with jobs of equal cost (Goyal, Vin and Cheng 1996,
doi:10.1145/248156.248171): a job's turn is one after the same client's job before it, but not
before the turn that is now being served. So a client with many jobs delays another client's first
one by the jobs at work alone.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from app.settings.model import Settings
from merging.errors import MergeError


@dataclass(eq=False)
class Place:
    """One job's place in the line."""

    owner: str
    client: str
    turn: int
    arrival: int
    begun: bool = False  # it holds a slot

    @property
    def rank(self) -> tuple[int, int]:
        """What the line is ordered by."""
        return self.turn, self.arrival


class Line:
    """The jobs that wait and those at work, in ``slots`` at most. Not safe for threads by itself.

    The executor calls ``join``, then ``begin`` until that is true, and ``leave`` when the job has
    ended, whatever happened. A slot is free only after ``leave``.
    """

    def __init__(self, slots: int = 1, max_waiting: int = 20, max_per_client: int = 20) -> None:
        """``max_per_client`` counts jobs at work too, ``max_waiting`` those in line alone."""
        self.slots = slots  # may change while jobs wait: workers come and go
        self._max_waiting = max_waiting
        self._max_per_client = max_per_client
        self._waiting: list[Place] = []  # by rank
        self._running: list[Place] = []
        self._arrivals = 0
        self._turn = 0  # of the job that began last
        self._last_turns: dict[str, int] = {}  # of each client's newest job

    def join(self, owner: str, client: str = "") -> Place:
        """A place at the end of the client's own jobs.

        MergeError if the owner has a job already, the client too many, or the line is full.
        """
        if self.of(owner):
            raise MergeError("A job of yours is still running: wait for it, or stop it first.")
        count = sum(place.client == client for place in self._places())
        if count >= self._max_per_client:
            raise MergeError(
                f"{count} jobs from your address are waiting or at work, the limit of one visitor: "
                "try again when one has ended."
            )
        full = len(self._waiting) >= self._max_waiting
        if full and len(self._waiting) + len(self._running) >= self.slots:
            raise MergeError("Too many jobs are waiting; try again in a minute.")
        place = Place(owner, client, self._next_turn(client), self._arrivals)
        self._arrivals += 1
        self._last_turns[client] = place.turn
        insort(self._waiting, place, key=lambda other: other.rank)
        return place

    def _next_turn(self, client: str) -> int:
        return max(self._turn, self._last_turns.get(client, -1) + 1)

    @property
    def waiting(self) -> list[Place]:
        """The places in line, the next one first."""
        return list(self._waiting)

    @property
    def running(self) -> list[Place]:
        """The places at work."""
        return list(self._running)

    def _places(self) -> list[Place]:
        return [*self._waiting, *self._running]

    def of(self, owner: str) -> list[Place]:
        """The places of an owner; there is at most one."""
        return [place for place in self._places() if place.owner == owner]

    def before(self, place: Place) -> int:
        """How many jobs, at work or in line, are before a waiting one; 0 if it may begin."""
        busy = max(0, len(self._running) + 1 - self.slots)
        return busy + self._waiting.index(place)

    def begin(self, place: Place) -> bool:
        """Take a slot if one is free and it is this job's turn."""
        if place.begun or self.before(place):
            return place.begun
        self._waiting.remove(place)
        self._running.append(place)
        place.begun = True
        self._turn = max(self._turn, place.turn)
        return True

    def leave(self, place: Place) -> None:
        """Give the place up, and its slot."""
        places = self._running if place.begun else self._waiting
        if place in places:
            places.remove(place)
        clients = {other.client for other in self._places()}
        self._last_turns = {
            client: turn
            for client, turn in self._last_turns.items()
            if client in clients or turn >= self._turn
        }


def line_of(settings: Settings) -> Line:
    """The line that the settings ask for; at home all jobs are one person's."""
    most = settings.max_waiting + settings.slots if settings.private else settings.max_client_jobs
    return Line(settings.slots, settings.max_waiting, most)
