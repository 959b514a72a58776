"""The page of `facegen app`: its tabs, and how it looks."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio asks while it is imported

import gradio as gr
from gradio.themes import Base

from facegen.aging.transfer import AgeTransfer
from facegen.app.age_tab import STYLE as AGE_STYLE
from facegen.app.age_tab import AgeTab
from facegen.app.examples import STYLE as EXAMPLES_STYLE
from facegen.app.latents_tab import STYLE as LATENTS_STYLE
from facegen.app.latents_tab import LatentsTab

TITLE = "facegen"
WORDS = """# facegen
Drop a photo and move the slider: the person stays, the age moves. Photos stay on the machine that runs this page, and
are deleted after an hour. Results carry a mark that says that a program changed the faces."""
KEPT = 3600  # seconds that files and sessions are kept
FONTS = ["system-ui", "sans-serif"]  # gradio's own theme asks Google for fonts
WIDE = ".gradio-container { max-width: 1280px !important; margin: auto; }"
STYLE = WIDE + AGE_STYLE + EXAMPLES_STYLE + LATENTS_STYLE


def theme() -> Base:
    """Colors and fonts, all of them here."""
    return Base(primary_hue="blue", font=FONTS, font_mono=["ui-monospace", "monospace"])


def build_page(transfer: AgeTransfer) -> gr.Blocks:
    """Return the page, not yet served."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, KEPT)) as page:
        gr.Markdown(WORDS)
        with gr.Tab("Change age"):
            photo = AgeTab(transfer, KEPT).session
        with gr.Tab("Latents"):
            LatentsTab(transfer, photo)
    return page
