"""The tools of MCP mode with hostile values: a result, or what is wrong, without our insides.

A value that does not fit the tool's schema is refused by the protocol's own package, in its words.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from mcp.types import CallToolResult, TextContent, Tool

from tests.attack.arguments import HOSTILE, QUICK, SECRET, SEED
from tests.attack.outcome import Outcome, within
from tests.attack.running import PAIR, Running

PATIENCE = timedelta(seconds=600)


def attack(app: Running, values: tuple[Any, ...] = HOSTILE, seconds: float = math.inf) -> Outcome:
    """Call every tool with each value in each place."""
    outcome = Outcome(f"every MCP tool × hostile values (seed {SEED})")
    files = [f"{app.url}gradio_api/file={file['path']}" for file in app.upload(*PAIR)]
    sent = [value for value in values if is_json(value)]
    asyncio.run(_talk(app.url, files, sent, seconds, outcome))
    return outcome


async def _talk(
    url: str, files: list[str], values: list[Any], seconds: float, outcome: Outcome
) -> None:
    kinds: Counter[str] = Counter()
    async with (
        streamable_http_client(f"{url}gradio_api/mcp/") as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        order = list(calls((await session.list_tools()).tools, files, values))
        random.Random(SEED).shuffle(order)
        for name, given, label in within(order, seconds):
            try:
                answer = await session.call_tool(name, given, read_timeout_seconds=PATIENCE)
                refused, said = answer.isError, words(answer)
            except McpError as error:
                refused, said = True, str(error)
            clean = not refused or (bool(said.strip()) and not SECRET.search(said))
            outcome.expect(clean, f"{name} {label}: {said[:200]}")
            kinds["refused" if refused else "answered"] += 1
    outcome.figures = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))


def calls(
    tools: list[Tool], files: list[str], values: list[Any]
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Tool, arguments and what is hostile about them."""
    for tool in tools:
        names = tool.inputSchema["properties"]
        usual = {"files": files, "file": files[0], "prompt": "a cat", **QUICK}
        usual = {name: value for name, value in usual.items() if name in names}
        for name in names:
            for value in values:
                yield tool.name, {**usual, name: value}, f"{name}={value!r:.40}"
        yield tool.name, {}, "no arguments"
        yield tool.name, {**usual, "nothing": 1}, "an unknown argument"


def words(answer: CallToolResult) -> str:
    """The text of an answer."""
    return " ".join(part.text for part in answer.content if isinstance(part, TextContent))


def is_json(value: Any) -> bool:
    """Whether a value can be sent as JSON in UTF-8, as the protocol asks for."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True
