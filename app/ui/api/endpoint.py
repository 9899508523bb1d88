"""A public endpoint that runs a job: its arguments, its progress and its answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from app.jobs.queue import Step
from app.ui.api.checked_blocks import CheckedBlocks
from app.ui.api.checks import Check, one_of
from app.ui.common import logged_sentence
from merging.errors import Cancelled, MergeError

Result = TypeVar("Result")
State = dict[str, Any]  # {"progress": share, "doing": text} while the job runs, then the report
Answer = tuple[str | None, State]  # the path of the file, None while the job runs
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Argument:
    """One argument of an endpoint."""

    help: str
    default: Any  # REQUIRED for none
    widget: gr.components.Component
    check: Check  # of what the client sends


def endpoint(
    name: str,
    description: str,
    arguments: Mapping[str, Argument],
    run: Callable[[dict[str, Any]], Iterator[Answer]],
) -> Callable[..., Iterator[Answer]]:
    """The function of an endpoint; Gradio reads its signature and its docstring.

    ``run`` gets the values of all arguments by name.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(key, kind, default=arg.default) for key, arg in arguments.items()]
    )

    def call(*values: Any, **named: Any) -> Iterator[Answer]:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        with client_errors():
            yield from run(bound.arguments)

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    lines = "\n".join(f"    {key}: {argument.help}" for key, argument in arguments.items())
    call.__doc__ = f"{description}\n\nArgs:\n{lines}"
    return call


def add_endpoint(
    function: Callable[..., Iterator[Answer]],
    arguments: Mapping[str, Argument],
    file: str,
    state: str,
) -> None:
    """Publish a function under its name; ``file`` and ``state`` are the labels of its outputs.

    Gradio checks that a file is an upload only if its widget is a ``gr.File``.
    """
    gr.Button(function.__name__).click(
        function,
        [argument.widget for argument in arguments.values()],
        [gr.File(label=file), gr.JSON(label=state)],
        api_name=function.__name__,
        concurrency_limit=None,
    )
    check_inputs(function.__name__, {name: arg.check for name, arg in arguments.items()})


def check_inputs(endpoint: str, checks: Mapping[str, Check]) -> None:
    """Let the page check an endpoint's arguments, in their order, before Gradio converts them."""

    def check(values: list[Any]) -> None:
        if len(values) > len(checks):
            raise MergeError(f"{endpoint} takes {len(checks)} arguments, not {len(values)}.")
        for (name, fits), value in zip(checks.items(), values, strict=False):
            fits(name, value)

    page = gr.context.Context.root_block
    if isinstance(page, CheckedBlocks):
        page.checks[endpoint] = check


def choice(
    help: str, name: str, choices: tuple[str, ...], default: str, shown: str = ""
) -> Argument:
    """An argument with a list of choices; the page may show another one than the default."""
    widget = gr.Dropdown(list(choices), value=shown or default, label=name)
    return Argument(help, default, widget, one_of(choices))


@contextmanager
def client_errors() -> Iterator[None]:
    """The client gets the text of a MergeError; other errors are logged, and it gets no details."""
    try:
        yield
    except Cancelled:
        raise gr.Error("Stopped.", print_exception=False) from None
    except Exception as error:  # noqa: BLE001 -- it is logged
        sentence = logged_sentence(error, "an API call failed")
        raise gr.Error(sentence, print_exception=False) from None


def progress_then_answer(
    items: Generator[Step | Result, None, None], answer: Callable[[Result], Answer]
) -> Iterator[Answer]:
    """The progress of a job, then its answer: the client takes the last value.

    The answer waits for the end of the job, which may still send progress after its result.
    """
    results: list[Result] = []
    with closing(items):
        for item in items:
            if isinstance(item, Step):
                yield None, {"progress": round(item.share, 4), "doing": item.text}
            else:
                results.append(item)
    yield from map(answer, results)
