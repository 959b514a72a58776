"""What shows generated faces in the page: a wall of pictures with captions, and a film that plays and is downloaded."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from facegen.app.compare import in_page
from facegen.photos.mark import Mark

WALL = """
<div class="wall"></div>
"""
# Figures are kept and only get other pictures: a wall that is built anew at every move of a slider flickers.
WALL_SCRIPT = """
const wall = element.querySelector('.wall');
const show = () => {
  const value = props.value || { columns: 1, side: 0, tiles: [] };
  wall.style.setProperty('--columns', value.columns);
  wall.style.setProperty('--side', value.side + 'px');
  while (wall.children.length > value.tiles.length) wall.lastChild.remove();
  while (wall.children.length < value.tiles.length) {
    const figure = document.createElement('figure');
    figure.append(document.createElement('img'), document.createElement('figcaption'));
    wall.append(figure);
  }
  value.tiles.forEach((tile, index) => {
    const [picture, caption] = wall.children[index].children;
    picture.hidden = !tile.src;
    if (tile.src) picture.src = tile.src; else picture.removeAttribute('src');
    picture.alt = tile.alt;
    caption.textContent = tile.caption;
    wall.children[index].classList.toggle('title', !tile.src);
  });
};
watch('value', show);
show();
"""
WALL_STYLE = """
.wall { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, var(--side))); gap: 6px;
  justify-content: center; }
.wall figure { margin: 0; text-align: center; }
.wall img { width: 100%; margin: 0; border-radius: 4px; }
.wall figcaption { font-size: 0.8em; line-height: 1.5; overflow-wrap: anywhere; }
.wall .title { grid-column: 1 / -1; text-align: left; font-weight: 600; }
"""
FILM = """
<div class="film" hidden>
  <video controls loop muted playsinline></video>
  <img alt="">
  <a download>Download</a>
</div>
<p class="hint">The walk appears here.</p>
"""
# Phones play no video from a data address, so the bytes become a blob.
FILM_SCRIPT = """
const box = element.querySelector('.film'), hint = element.querySelector('.hint');
const video = element.querySelector('video'), picture = element.querySelector('img');
const link = element.querySelector('a');
let address = null;
const show = () => {
  const value = props.value;
  box.hidden = !value; hint.hidden = !!value;
  if (address) URL.revokeObjectURL(address);
  address = null;
  if (!value) { video.removeAttribute('src'); picture.removeAttribute('src'); return; }
  const bytes = Uint8Array.from(atob(value.data), letter => letter.charCodeAt(0));
  address = URL.createObjectURL(new Blob([bytes], { type: value.type }));
  const plays = value.type.startsWith('video');
  video.hidden = !plays; picture.hidden = plays;
  (plays ? picture : video).removeAttribute('src');
  (plays ? video : picture).src = address;
  video.setAttribute('aria-label', value.caption);
  picture.alt = value.caption;
  link.href = address; link.download = value.name; link.textContent = 'Download ' + value.name;
  if (plays && !matchMedia('(prefers-reduced-motion: reduce)').matches) video.play().catch(() => {});
};
watch('value', show);
show();
"""
FILM_STYLE = """
.film { display: grid; justify-items: center; gap: 8px; }
.film[hidden], .film [hidden] { display: none; }
.film video, .film img { width: 100%; max-width: 384px; margin: 0; border-radius: 4px; }
.film a { overflow-wrap: anywhere; }
@media (max-width: 700px) { .film video, .film img { max-width: 60vw; } }  /* the link has to be in sight, too */
.hint { padding: 3em 1em; text-align: center; opacity: 0.7; }
"""


@dataclass(frozen=True)
class Tile:
    """A picture on a wall, with its caption; without a picture, the title of those that follow."""

    caption: str
    picture: Image.Image | None = None
    made: str = ""  # what the picture was made from, for its mark


@dataclass(frozen=True)
class Film:
    """A video, and what it shows."""

    content: bytes
    kind: str  # mp4 or gif
    name: str
    caption: str
    seconds: float


def picture_wall(elem_id: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """Return a component that shows pictures; its value is what `hung` makes, or None."""
    return gr.HTML(value, html_template=WALL, css_template=WALL_STYLE, js_on_load=WALL_SCRIPT, elem_id=elem_id)


def hung(tiles: Sequence[Tile], columns: int, side: int) -> dict[str, Any]:
    """Return the value of a `picture_wall`: tiles in columns, each at most `side` pixels wide."""
    return {
        "columns": columns,
        "side": side,
        "tiles": [
            {
                "caption": tile.caption,
                "alt": f"Generated face: {tile.made}" if tile.picture else "",
                "src": in_page(tile.picture, Mark(generated=True, made=tile.made)) if tile.picture else "",
            }
            for tile in tiles
        ],
    }


def film_box(elem_id: str) -> gr.HTML:
    """Return a component that plays a video; its value is what `screened` makes, or None."""
    return gr.HTML(None, html_template=FILM, css_template=FILM_STYLE, js_on_load=FILM_SCRIPT, elem_id=elem_id)


def screened(film: Film) -> dict[str, str]:
    """Return the value of a `film_box`. The page gets the bytes themselves: no file waits on this machine."""
    return {
        "data": base64.b64encode(film.content).decode("ascii"),
        "type": {"mp4": "video/mp4", "gif": "image/gif"}[film.kind],
        "name": film.name,
        "caption": film.caption,
    }
