"""Many visitors at once: no error of the server, everybody's turn, and memory that stays flat."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.attack.outcome import Outcome
from tests.attack.running import Running

PUBLIC = {
    "ITERIS_PUBLIC": "on",
    "ITERIS_PROXIES": "1",
    "ITERIS_MAX_CLIENT_JOBS": "3",
    "ITERIS_MAX_WAITING": "60",
}
PATIENCE = 600.0


@dataclass
class Job:
    """One call of /render, as its visitor saw it."""

    client: str
    begun: float = field(default_factory=time.monotonic)
    worked: float = 0.0  # when it was first at work
    ended: float = 0.0
    error: str = ""


def address(number: int) -> dict[str, str]:
    """The header by which the app takes a request for that of another visitor."""
    return {"x-forwarded-for": f"203.0.113.{number}"}


async def draw(client: httpx.AsyncClient, url: str, number: int, arguments: list[Any]) -> Job:
    """Draw one picture as a visitor."""
    job, headers = Job(f"{number}"), address(number)
    sent = await client.post(
        f"{url}gradio_api/call/render", json={"data": arguments}, headers=headers
    )
    if sent.status_code != 200:
        job.error = f"{sent.status_code} {sent.text[:100]}"
        return job
    place = f"{url}gradio_api/call/render/{sent.json()['event_id']}"
    event = ""
    async with client.stream("GET", place, headers=headers) as lines:
        if lines.status_code != 200:
            job.error = f"{lines.status_code}"
        async for line in lines.aiter_lines():
            event = line[7:] if line.startswith("event: ") else event
            if event == "error" and line.startswith("data: "):
                job.error = str((json.loads(line[6:]) or {}).get("error"))
            elif line.startswith("data: ") and not job.worked and "Waiting" not in line:
                job.worked = time.monotonic()
    job.ended = time.monotonic()
    return job


def usual_arguments(url: str, steps: int = 1, name: str = "render", **values: Any) -> list[Any]:
    """The cheapest picture of so many steps, or another call, by the endpoint's own arguments."""
    about = httpx.get(f"{url}gradio_api/info", timeout=60).json()["named_endpoints"][f"/{name}"]
    given = {"prompt": "a cat", "steps": steps, "base": "mini", **values}
    return [
        given.get(each["parameter_name"], each.get("parameter_default"))
        for each in about["parameters"]
    ]


async def visits(app: Running, visitors: int, jobs: int, outcome: Outcome) -> None:
    """So many visitors draw so many pictures each, one after the other; the page is asked too."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
        arguments = usual_arguments(app.url)
        waits: list[float] = []
        page = asyncio.create_task(ask_page(client, app.url, waits))

        async def visit(number: int) -> list[Job]:
            return [await draw(client, app.url, number, arguments) for _ in range(jobs)]

        rows = await asyncio.gather(*(visit(number) for number in range(1, visitors + 1)))
        page.cancel()
    for job in (job for row in rows for job in row):
        outcome.expect(not job.error, f"visitor {job.client}: {job.error}")
    median = statistics.median(waits) if waits else 0.0
    outcome.expect(median < 1, f"GET / took {median:.2f} s at the median")
    lasts = [max(job.ended for job in row) for row in rows]
    firsts = [row[0].ended - row[0].begun for row in rows]
    outcome.figures = (
        f"GET / {median:.2f} s at the median; first pictures after {min(firsts):.1f} to "
        f"{max(firsts):.1f} s, visitors done within {max(lasts) - min(lasts):.1f} s of each other"
    )


async def ask_page(client: httpx.AsyncClient, url: str, waits: list[float]) -> None:
    """Ask for the page every half second, and note how long it takes."""
    headers = {**address(250), "connection": "close"}  # a kept one may end while it is idle
    while True:
        begun = time.monotonic()
        answer = await client.get(url, headers=headers)
        answer.raise_for_status()
        waits.append(time.monotonic() - begun)
        await asyncio.sleep(0.5)


def crowd(app: Running, visitors: int, jobs: int, state: str) -> Outcome:
    """``visits``, and whether the memory is flat over the second half of them."""
    outcome = Outcome(f"{visitors} visitors × {jobs} jobs, {state} app")
    asyncio.run(visits(app, visitors, jobs, outcome))
    return outcome


def memory(app: Running, jobs: int) -> Outcome:
    """Memory over many jobs of one visitor after the first tenth of them."""
    outcome = Outcome(f"memory over {jobs} jobs")

    async def draw_all(count: int) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            arguments = usual_arguments(app.url)
            for _ in range(count):
                job = await draw(client, app.url, 1, arguments)
                outcome.expect(not job.error, job.error)

    asyncio.run(draw_all(max(jobs // 10, 1)))
    before = app.memory
    asyncio.run(draw_all(jobs - jobs // 10))
    grown = app.memory / before - 1
    outcome.expect(grown < 0.1, f"memory grew by {grown:.0%}")
    outcome.figures = f"{before >> 20} MiB, then {grown:+.1%}"
    return outcome


def greedy(app: Running, sessions: int = 24) -> Outcome:
    """One client calls from many sessions; another visitor's first job waits for one job alone."""
    outcome = Outcome(f"one program with {sessions} sessions against a visitor")

    async def both() -> tuple[list[Job], Job]:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            arguments = usual_arguments(app.url)
            slow = usual_arguments(app.url, steps=25)
            calls: list[Awaitable[Job]] = [
                asyncio.create_task(draw(client, app.url, 7, slow)) for _ in range(sessions)
            ]
            await asyncio.sleep(1)
            other = await draw(client, app.url, 8, arguments)
            return list(await asyncio.gather(*calls)), other

    jobs, other = asyncio.run(both())
    outcome.expect(not other.error, f"the visitor was refused: {other.error}")
    done = [job for job in jobs if not job.error]
    between = [job for job in done if other.begun < job.ended <= other.worked]
    outcome.expect(len(between) <= 1, f"{len(between)} jobs of the program came before")
    refused = [job for job in jobs if job.error]
    outcome.expect(all("your address" in job.error for job in refused), "no sentence")
    outcome.figures = (
        f"the visitor began after {other.worked - other.begun:.1f} s and {len(between)} job of the "
        f"program's; {len(refused)} of its calls were refused"
    )
    return outcome


def flood(app: Running, calls: int = 300) -> Outcome:
    """One client calls what is no job, again and again; another visitor's call is taken."""
    outcome = Outcome(f"{calls} calls of one program that are no jobs, against a visitor")

    async def call(client: httpx.AsyncClient, number: int) -> httpx.Response:
        place = f"{app.url}gradio_api/call/methods"
        return await client.post(place, json={"data": []}, headers=address(number))

    async def both() -> tuple[set[int], list[tuple[int, float]]]:
        async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits()) as client:
            greedy = [asyncio.create_task(call(client, 7)) for _ in range(calls)]
            seen = []
            for _ in range(10):
                begun = time.monotonic()
                answer = await call(client, 8)
                seen.append((answer.status_code, time.monotonic() - begun))
            return {told.status_code for told in await asyncio.gather(*greedy)}, seen

    codes, seen = asyncio.run(both())
    outcome.expect(codes <= {200, 429}, f"the program was told {codes}")
    for status, _ in seen:
        outcome.expect(status == 200, f"the visitor was told {status}")
    median = statistics.median(seconds for _, seconds in seen)
    outcome.figures = f"the visitor’s calls were taken in {median:.2f} s at the median"
    return outcome
