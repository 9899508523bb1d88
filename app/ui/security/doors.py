"""The addresses that answer: those of Gradio's that the page and the API use, and no others.

Gradio has further ones, such as a stream for its developers, links that hold what a session shows,
and an editor of the program. A release may add some; here they exist only once they are named.
"""

from __future__ import annotations

import re

from starlette.types import Scope

NO_SUCH_ADDRESS = "This app has no such address."
READ = re.compile(
    r"""/ | /config/? | /(assets|static|svelte)/.+ | /theme\.css | /favicon\.ico | /robots\.txt
    | /login/(huggingface|callback) | /logout  # of the Hub's log-in
    | /gradio_api/(info/? | openapi\.json | app_id/? | startup-events | queue/(status|data)
        | upload_progress | heartbeat/[^/]+ | call/(v2/)?[^/]+/[^/]+ | file[=/].+)""",
    re.VERBOSE | re.DOTALL,
)
WRITE = re.compile(
    r"""/gradio_api/(upload | queue/join | cancel | reset | component_server
        | call/(v2/)?[^/]+ | run/[^/]+ | api/[^/]+)/?""",
    re.VERBOSE,
)
TOOLS = re.compile(r"/gradio_api/mcp(/.*)?", re.DOTALL)  # of MCP, if that is on


def is_open(scope: Scope) -> bool:
    """Whether a request's address is one of those that answer."""
    path = address(scope)
    doors = WRITE if scope["method"] == "POST" else READ
    return bool(doors.fullmatch(path) or TOOLS.fullmatch(path))


def address(scope: Scope) -> str:
    """The path below the app's own."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
