"""Visitors who go: a lost connection and a closed tab free the worker for the next one."""

from __future__ import annotations

import asyncio
import time

import httpx
from playwright.sync_api import expect

from app.jobs.held import AWAY_PUBLIC
from tests.app.browsing import DESKTOP, Visitor, chromium
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running
from tests.attack.visitors import PATIENCE, Job, address, draw, usual_arguments

MARGIN = 30.0  # s for the job to notice, on a busy machine
LONG = 100  # steps


def lost(app: Running) -> Outcome:
    """A program whose connection is lost while it follows its job."""
    outcome = Outcome("lost connection frees the worker")

    async def leave() -> tuple[float, Job]:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            long = usual_arguments(app.url, steps=LONG)
            sent = await client.post(
                f"{app.url}gradio_api/call/render", json={"data": long}, headers=address(9)
            )
            place = f"{app.url}gradio_api/call/render/{sent.json()['event_id']}"
            async with client.stream("GET", place, headers=address(9)) as lines:
                async for line in lines.aiter_lines():
                    if "data" in line:
                        break
            left = time.monotonic()
            return left, await draw(client, app.url, 10, usual_arguments(app.url))

    judge(outcome, *asyncio.run(leave()), MARGIN)
    return outcome


def closed(app: Running) -> Outcome:
    """A page whose tab is closed while it merges: its job goes on for a while, then it is ended."""
    outcome = Outcome(
        f"closed tab frees the worker, which waits {AWAY_PUBLIC:.0f} s for its return"
    )
    with chromium() as browser:
        page = browser.new_context(viewport=DESKTOP).new_page()
        visitor = Visitor(page).open(app.url)
        visitor.add(*PAIR)
        expect(visitor.loras).to_have_count(2)
        visitor.steps(LONG)
        visitor.press.click()
        expect(visitor.running).to_be_visible()
        page.close()
        left = time.monotonic()

    async def follow() -> Job:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            return await draw(client, app.url, 10, usual_arguments(app.url))

    judge(outcome, left, asyncio.run(follow()), AWAY_PUBLIC + MARGIN)
    return outcome


def judge(outcome: Outcome, left: float, job: Job, limit: float) -> None:
    """Whether the next visitor's job was at work in time."""
    seconds = job.worked - left
    outcome.expect(not job.error, job.error)
    outcome.expect(seconds < limit, f"the next one was at work after {seconds:.0f} s")
    outcome.figures = f"the next one was at work after {seconds:.1f} s"
