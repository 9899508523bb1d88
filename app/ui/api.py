"""The public endpoints, for gradio_client and plain HTTP; built from real components.

Real components matter: Gradio checks that a file was uploaded only where a ``gr.File`` takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from app.drawing import Sampler
from app.executor import Step
from app.jobs import DTYPES
from app.orders import MergeOrder, Pick
from app.scenes import DrawOrder, Picture
from app.service import Studio
from app.ui.basics import DEFAULTS, said_of
from app.ui.reading import add_reading
from merging.errors import Cancelled, MergeError
from merging.methods import METHODS
from merging.request import Targets, Teacher
from merging.solve import Fallback

log = logging.getLogger(__name__)
State = dict[str, Any]  # {"progress": share, "doing": text} while at work, the report at the end


def add_endpoints(studio: Studio) -> None:
    """/merge, /render, /inspect and /methods, behind widgets that nobody sees."""
    with gr.Group(visible=False):
        add_reading(studio, shown_to_client)
        _merge_endpoint(studio)
        _render_endpoint(studio)


def _merge_endpoint(studio: Studio) -> None:
    def merge(
        files: list[str] | None,
        strengths: list[float] | None = None,
        triggers: list[str] | None = None,
        base: str = "mini",
        method: str = "iteris",
        rank: str = "exact",
        targets: str = "attention",
        samples: int = 50,
        fallback: str = "sum",
        teacher: str = "single",
        seed: int = 0,
        prompts: str = "",
        dtype: str = "fp16",
        file_format: str = "kohya",
    ) -> Iterator[tuple[str | None, State]]:
        """Merge LoRA files into one adapter: the file, and the report of every layer."""
        with shown_to_client():
            session = studio.open_session()
            picks = _picks(studio, session, files, strengths, triggers)
            order = MergeOrder(
                picks=picks,
                base=base,
                method=method,
                rank=rank,
                targets=targets,
                samples=int(samples),
                fallback=fallback,
                teacher=teacher,
                seed=int(seed),
                prompts=prompts,
                dtype=dtype,
            )
            with closing(studio.merge(session, order)) as items:
                for item in items:
                    if isinstance(item, Step):
                        yield None, _doing(item)
                    else:
                        path = item.kohya if file_format == "kohya" else item.diffusers
                        yield str(path), {"recipe": item.recipe, **item.report}

    button = gr.Button("merge")
    button.click(
        merge,
        _merge_widgets(studio.settings.base),
        [gr.File(label="adapter"), gr.JSON(label="report")],
        api_name="merge",
        concurrency_limit=None,
    )


def _merge_widgets(base: str) -> list[gr.components.Component]:
    """One per argument of /merge, in their order."""
    return [
        *_source_widgets(),
        gr.Textbox(base, label="base"),
        gr.Dropdown(list(METHODS), value=DEFAULTS["method"], label="method"),
        gr.Textbox(str(DEFAULTS["rank"]), label="rank"),
        gr.Dropdown(list(get_args(Targets)), value=DEFAULTS["targets"], label="targets"),
        gr.Number(DEFAULTS["samples"], label="samples", precision=0, minimum=1, maximum=200),
        gr.Dropdown(list(get_args(Fallback)), value=DEFAULTS["fallback"], label="fallback"),
        gr.Dropdown(list(get_args(Teacher)), value=DEFAULTS["teacher"], label="teacher"),
        gr.Number(DEFAULTS["seed"], label="seed", precision=0, minimum=0),
        gr.Textbox("", label="prompts"),
        gr.Dropdown(list(DTYPES), value="fp16", label="dtype"),
        gr.Dropdown(["kohya", "diffusers"], value="kohya", label="file_format"),
    ]


def _render_endpoint(studio: Studio) -> None:
    def render(
        prompt: str,
        files: list[str] | None = None,
        strengths: list[float] | None = None,
        base: str = "mini",
        seed: int = 0,
        steps: int = 25,
        guidance: float = 5.0,
        negative: str = "",
        sampler: str = "DDIM",
        compose: str = "sum",
        triggers: list[str] | None = None,
    ) -> Iterator[tuple[str | None, State]]:
        """Draw one picture (PNG, its origin inside): these LoRAs summed or gated, or none."""
        with shown_to_client():
            session = studio.open_session()
            picks = _picks(studio, session, files, strengths, triggers)
            order = DrawOrder(
                picks,
                prompt,
                base,
                seed=int(seed),
                steps=int(steps),
                guidance=guidance,
                negative=negative,
                sampler=sampler,
                columns=(compose,),
            )
            with closing(studio.draw(session, order)) as items:
                for item in items:
                    if isinstance(item, Step):
                        yield None, _doing(item)
                    elif isinstance(item, Picture):
                        yield str(item.path), {"progress": 1.0, "doing": "done"}

    files, strengths, triggers = _source_widgets()
    button = gr.Button("render")
    button.click(
        render,
        [
            gr.Textbox("", label="prompt"),
            files,
            strengths,
            gr.Textbox(str(studio.settings.base), label="base"),
            gr.Number(0, label="seed", precision=0, minimum=0),
            gr.Number(25, label="steps", precision=0, minimum=1, maximum=100),
            gr.Number(5.0, label="guidance", minimum=0, maximum=30),
            gr.Textbox("", label="negative"),
            gr.Dropdown(list(get_args(Sampler)), value="DDIM", label="sampler"),
            gr.Dropdown(["sum", "gated"], value="sum", label="compose"),
            triggers,
        ],
        [gr.File(label="picture"), gr.JSON(label="status")],
        api_name="render",
        concurrency_limit=None,
    )


def _source_widgets() -> tuple[gr.File, gr.JSON, gr.JSON]:
    return (
        gr.File(file_count="multiple", file_types=[".safetensors"], label="files"),
        gr.JSON(label="strengths"),
        gr.JSON(label="triggers"),
    )


def _picks(
    studio: Studio, session: str, files: list[str] | None, strengths: object, triggers: object
) -> tuple[Pick, ...]:
    """The client's files, taken into a session of their own, with their strengths and triggers."""
    paths = [Path(path) for path in files or []]
    weights = _list_of(strengths, (int, float), "strengths", len(paths), 1.0)
    words = _list_of(triggers, (str,), "triggers", len(paths), "")
    cards: list[Any] = []
    for path in paths:
        cards.append(studio.add(session, path, cards))
    return tuple(
        Pick(card.path, card.name, float(weight), word)
        for card, weight, word in zip(cards, weights, words, strict=True)
    )


def _list_of(
    given: object, kinds: tuple[type, ...], name: str, count: int, default: object
) -> list[Any]:
    """A JSON list with one entry per file, or the default for each."""
    if given is None or given == []:
        return [default] * count
    if (
        not isinstance(given, list)
        or len(given) != count
        or not all(isinstance(entry, kinds) and not isinstance(entry, bool) for entry in given)
    ):
        kind = "texts" if str in kinds else "numbers"
        raise MergeError(f"{name} must be a list of {count} {kind}, one per file in their order.")
    return given


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
        raise gr.Error(said_of(error), print_exception=False) from None


def _doing(step: Step) -> State:
    return {"progress": round(step.share, 4), "doing": step.text}
