"""Upload to the Hub: with the visitor's token, or on a Space with the visitor's login."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

TOKEN_NOTE = "Used for this upload only: not stored, not logged."
LOGIN_NOTE = "Log in with the button at the top of the page."


@dataclass(frozen=True)
class HubUpload:
    """The widgets of an upload."""

    repo: gr.Textbox
    token: gr.Textbox | None  # None where visitors log in
    private: gr.Checkbox
    push: gr.Button
    pushed: gr.HTML


def login_button(enabled: bool) -> None:
    """Gradio's login button, if offered; at the top, because it reloads the page."""
    if enabled:
        gr.LoginButton("Log in to push to the Hub", "Log out ({})", size="sm", elem_id="login")


def hub_section(login: bool) -> HubUpload:
    """The form, folded."""
    with gr.Accordion("Push to the Hugging Face Hub", open=False):
        repo = gr.Textbox(
            "",
            label="Repository",
            placeholder="owner/name",
            info=LOGIN_NOTE if login else None,
            max_lines=1,
        )
        token = None if login else _token()
        private = gr.Checkbox(True, label="Private: only you see it")
        push = gr.Button("Push", elem_id="push")
        pushed = gr.HTML(elem_id="pushed")
    return HubUpload(repo, token, private, push, pushed)


def _token() -> gr.Textbox:
    return gr.Textbox(
        "",
        label="Token",
        type="password",
        placeholder="hf_…, with write access",
        info=TOKEN_NOTE,
        max_lines=1,
    )
