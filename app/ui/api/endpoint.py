"""A public endpoint that runs a job: declared arguments, progress while it runs, one answer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from app.jobs.queue import Step
from app.ui.common import error_sentence
from merging.errors import Cancelled, MergeError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
State = dict[str, Any]  # {"progress": share, "doing": text} while at work, the report at the end
Answer = tuple[str | None, State]  # the file, once there is one
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Argument:
    """One argument of an endpoint."""

    help: str
    default: Any  # REQUIRED for none
    widget: gr.components.Component


def endpoint(
    name: str,
    about: str,
    arguments: Mapping[str, Argument],
    run: Callable[[dict[str, Any]], Iterator[Answer]],
) -> Callable[..., Iterator[Answer]]:
    """The public function, with a signature and a docstring for programs to read.

    ``run`` gets the values of all arguments by name.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(key, kind, default=each.default) for key, each in arguments.items()]
    )

    def call(*values: Any, **named: Any) -> Iterator[Answer]:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        with shown_to_client():
            yield from run(bound.arguments)

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    listed = "\n".join(f"    {key}: {each.help}" for key, each in arguments.items())
    call.__doc__ = f"{about}\n\nArgs:\n{listed}"
    return call


def add_endpoint(
    function: Callable[..., Iterator[Answer]],
    arguments: Mapping[str, Argument],
    file: str,
    state: str,
) -> None:
    """Offer it under its name, behind widgets that nobody sees; ``file`` and ``state`` are labels.

    The widgets matter: Gradio checks that a file was uploaded only where a ``gr.File`` takes it.
    """
    gr.Button(function.__name__).click(
        function,
        [each.widget for each in arguments.values()],
        [gr.File(label=file), gr.JSON(label=state)],
        api_name=function.__name__,
        concurrency_limit=None,
    )


def choice(name: str, choices: tuple[str, ...], value: str) -> gr.Dropdown:
    """The widget of an argument that takes one of these."""
    return gr.Dropdown(list(choices), value=value, label=name)


@contextmanager
def shown_to_client() -> Iterator[None]:
    """MergeError reaches the caller as it stands; anything else goes to the log, without paths."""
    try:
        yield
    except MergeError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Cancelled:
        raise gr.Error("Stopped.", print_exception=False) from None
    except Exception as error:
        log.exception("an API call failed")
        raise gr.Error(error_sentence(error), print_exception=False) from None


def answers(
    items: Generator[Step | Result, None, None], answer: Callable[[Result], Answer]
) -> Iterator[Answer]:
    """The progress of a job, and behind all of it the answer: a call gives what comes last.

    A job may repeat its last step while it tidies up behind the result.
    """
    results: list[Result] = []
    with closing(items):
        for item in items:
            if isinstance(item, Step):
                yield None, {"progress": round(item.share, 4), "doing": item.text}
            else:
                results.append(item)
    yield from map(answer, results)
