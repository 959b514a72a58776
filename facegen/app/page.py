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
WIDE = """
.gradio-container { max-width: 1280px !important; margin: auto; }
.dark { --color-accent: var(--primary-400); }
input:focus-visible, textarea:focus-visible {
  outline: 2px solid var(--color-accent) !important; outline-offset: 4px;
}
"""
STYLE = WIDE + AGE_STYLE + EXAMPLES_STYLE + LATENTS_STYLE

# Who types 25 types 2 first, or nothing. gradio takes that for an age below the slider's, and calls it an error.
SCRIPT = """() => {
  const parts = (event) => {
    const number = event.target;
    if (number.type !== 'number') return {};
    const slider = number.closest('.block')?.querySelector('input[type=range]');
    const low = number.value === '' ? Boolean(slider) : number.min !== '' && +number.value < +number.min;
    return { number, slider, low };
  };
  document.addEventListener('input', (event) => {
    const { number, low } = parts(event);
    if (low) event.stopImmediatePropagation();
    else if (number && number.max !== '' && +number.value > +number.max) number.value = number.max;
  }, true);
  document.addEventListener('change', (event) => {
    const { number, slider, low } = parts(event);
    if (!low) return;
    number.value = number.value === '' ? slider.value : number.min;
    number.dispatchEvent(new Event('input', { bubbles: true }));
  }, true);
}"""


def theme() -> Base:
    """Colors and fonts, all of them here; the colors are dark enough to be read."""
    base = Base(primary_hue="blue", font=FONTS, font_mono=["ui-monospace", "monospace"])
    return base.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        color_accent="*primary_600",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
    )


def build_page(transfer: AgeTransfer) -> gr.Blocks:
    """Return the page, not yet served."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(min(600, KEPT), KEPT)) as page:
        gr.Markdown(WORDS)
        with gr.Tab("Change age"):
            photo = AgeTab(transfer, KEPT).session
        with gr.Tab("Latents"):
            LatentsTab(transfer, photo)
    return page
