"""Photos that visitors can try, all of them in the public domain (NOTICE says where they are from)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gradio as gr

STYLE = """
.example { flex-direction: column; gap: 6px; line-height: 1.3; }
.example img { width: 84px; height: 84px; margin: 0; object-fit: cover; object-position: top; border-radius: 6px; }
"""


def example_photos() -> dict[str, Path]:
    """Portraits by the name of who is on them: matplotlib's one, and those that come with this package."""
    from matplotlib.cbook import get_sample_data

    hopper = Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    paths = [hopper, *sorted((Path(__file__).parent / "examples").glob("*.jpg"))]
    return {path.stem.replace("_", " ").title(): path for path in paths}


def example_buttons(photo: gr.Image) -> None:
    """Add a button for each example, which puts it where a visitor's photo goes.

    gradio's own examples are pictures without words: a screen reader could not tell who is on them.
    """
    gr.Markdown("Or take one of these:")
    with gr.Row():
        for name, path in example_photos().items():
            button = gr.Button(name, icon=str(path), size="sm", min_width=110, scale=0, elem_classes="example")
            # A visitor's copy of the same photo lies where gradio keeps the icon, and would be deleted with it.
            assert button.icon is not None  # as gradio has it: an address and a path
            button.keep_in_cache.add(button.icon["path"])
            button.click(partial(str, path), None, photo, show_progress="hidden", api_visibility="private")
