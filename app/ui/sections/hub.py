"""The way to the Hub: with a token of the visitor's own, or on a Space as who is logged in."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

NEEDED = "Used for this one upload, then forgotten: not stored, not logged."
LOGGED_IN = "As whoever is logged in, by the button at the top of the page."


@dataclass(frozen=True)
class Hub:
    """Where to, and as whom."""

    repo: gr.Textbox
    token: gr.Textbox | None  # None where visitors log in
    private: gr.Checkbox
    push: gr.Button
    pushed: gr.HTML


def login_button(offered: bool) -> None:
    """The Hub's own log-in, where there is one; it loads the page anew, so it stands at the top."""
    if offered:
        gr.LoginButton("Log in to push to the Hub", "Log out ({})", size="sm", elem_id="login")


def hub_section(login: bool) -> Hub:
    """The form of the last fold."""
    with gr.Accordion("Push to the Hugging Face Hub", open=False):
        repo = gr.Textbox(
            "",
            label="Repository",
            placeholder="owner/name",
            info=LOGGED_IN if login else None,
            max_lines=1,
        )
        token = None if login else _token()
        private = gr.Checkbox(True, label="Private: only you see it")
        push = gr.Button("Push", elem_id="push")
        pushed = gr.HTML(elem_id="pushed")
    return Hub(repo, token, private, push, pushed)


def _token() -> gr.Textbox:
    return gr.Textbox(
        "",
        label="Token",
        type="password",
        placeholder="hf_…, with the right to write",
        info=NEEDED,
        max_lines=1,
    )
