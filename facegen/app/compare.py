"""Before and after: two pictures over one another, and a border between them that is dragged or moved by arrow keys."""

from __future__ import annotations

import base64
import io

import gradio as gr
from PIL import Image

from facegen.photos.mark import Mark, marked
from facegen.photos.notes import Notes, for_saving

QUALITY = 90

# The range lies over the pictures, so that it is dragged wherever a finger falls, and keys and screen readers know it.
TEMPLATE = """
<div class="compare" hidden>
  <img class="before" alt="">
  <img class="after" alt="">
  <div class="border"></div>
  <input type="range" min="0" max="100" value="50" step="1" aria-label="Border between the photo before and after">
</div>
<p class="hint">The photo at another age appears here.</p>
"""
STYLE = """
.compare { position: relative; line-height: 0; touch-action: pan-y; scroll-margin-top: 110px;
  --border: 50%; }
.compare[hidden] { display: none; }
.compare img { width: 100%; max-height: 70vh; object-fit: contain; user-select: none; margin: 0; }
.compare .after { position: absolute; inset: 0; height: 100%; clip-path: inset(0 0 0 var(--border)); }
.compare .border { position: absolute; top: 0; bottom: 0; left: var(--border); width: 3px; margin-left: -1px;
  background: white; box-shadow: 0 0 3px black; pointer-events: none; }
.compare .border::after { content: '◂ ▸'; position: absolute; top: 75%; left: 50%;
  transform: translate(-50%, -50%); padding: 0.9em 0.4em; border-radius: 2em; background: white; color: black;
  white-space: nowrap; box-shadow: 0 0 3px black; }
.compare input { position: absolute; top: 0; left: var(--left); width: var(--filled); height: 100%; margin: 0;
  opacity: 0; cursor: ew-resize; appearance: none; }
/* Without a width, so that the border is where the pointer is. */
.compare input::-webkit-slider-thumb { appearance: none; width: 1px; height: 100%; }
.compare input::-moz-range-thumb { width: 1px; height: 100%; border: none; }
.compare:focus-within { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.hint { padding: 3em 1em; text-align: center; opacity: 0.7; }
"""
SCRIPT = """
const box = element.querySelector('.compare'), hint = element.querySelector('.hint');
const before = element.querySelector('.before'), after = element.querySelector('.after');
const range = element.querySelector('input');
// The pictures fill the height or the width of the box: the border is a share of what they fill.
const place = () => {
  const width = box.clientWidth, height = box.clientHeight;
  const filled = Math.min(width, height * before.naturalWidth / Math.max(before.naturalHeight, 1)) || width;
  const left = (width - filled) / 2;
  box.style.setProperty('--left', left + 'px');
  box.style.setProperty('--filled', filled + 'px');
  box.style.setProperty('--border', left + filled * range.value / 100 + 'px');
  range.setAttribute('aria-valuetext', range.value + ' percent before');
};
const show = () => {
  const value = props.value;
  box.hidden = !value; hint.hidden = !!value;
  if (!value) return;
  const isNew = value.before && before.src !== value.before;  // none: that of the value before
  if (isNew) before.src = value.before;
  after.src = value.after;
  before.alt = value.before_alt; after.alt = value.after_alt;
  place();
  // On a phone they are far below the photo that was dropped; the slider above them stays in sight, too.
  if (isNew && box.getBoundingClientRect().top > window.innerHeight - 100) box.scrollIntoView();
};
range.addEventListener('input', place);
before.addEventListener('load', place);
new ResizeObserver(place).observe(box);
watch('value', show);
show();
"""


def compare_box(elem_id: str) -> gr.HTML:
    """Return a component that shows two pictures to compare; its value is what `compared` makes, or None."""
    return gr.HTML(None, html_template=TEMPLATE, css_template=STYLE, js_on_load=SCRIPT, elem_id=elem_id)


def compared(before: str | None, after: str, caption: str) -> dict[str, str | None]:
    """Return the value of a `compare_box`: two addresses from `in_page`, and what the second one shows.

    Args:
        before: None where the page has it already.
    """
    return {"before": before, "after": after, "before_alt": "The photo as it is", "after_alt": caption}


def in_page(picture: Image.Image, mark: Mark | None = None) -> str:
    """A picture as an address that holds it: nothing is written to disk.

    Args:
        mark: what was done; it goes along when somebody saves the picture from the page.
    """
    file = io.BytesIO()
    notes = for_saving("JPEG", marked(Notes(), mark)) if mark else {}
    colors = {"icc_profile": picture.info["icc_profile"]} if picture.info.get("icc_profile") else {}
    picture.convert("L" if picture.mode in {"L", "LA"} else "RGB").save(
        file, "JPEG", quality=QUALITY, **{**notes, **colors}
    )
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
