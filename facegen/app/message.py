"""One line for the visitor: what is going on, or what went wrong. Screen readers speak it."""

from __future__ import annotations

import html

import gradio as gr

from facegen.errors import one_line


def message_line(elem_id: str) -> gr.HTML:
    """Return a component for a line of text, which is empty at first."""
    return gr.HTML(
        "",
        html_template='<p role="status" aria-live="polite" class="said">${value}</p>',
        css_template=".said { white-space: pre-line; min-height: 1.5em; }",
        elem_id=elem_id,
    )


def spoken(error: Exception) -> str:
    """What a visitor is told of an error: no more than one line, and no HTML of whoever named a file."""
    return html.escape(one_line(error))
