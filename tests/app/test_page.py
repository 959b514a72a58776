"""What strangers drop on the page, and what it looks like to all who come: errors, phones, keys, screen readers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import psutil
import pytest
from helpers import HOPPER
from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    """A PNG of 60000x60000 black pixels in a few bytes of each row of nothing."""
    rows = zlib.compress(bytes(1_000_000), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Files that are no photo with a face, and what the page says of each."""
    nobody, moving = folder / "nobody.png", folder / "moving.gif"
    Image.new("RGB", (300, 300), "teal").save(nobody)
    colors = [Image.new("RGB", (60, 60), color) for color in ("red", "green", "blue")]
    colors[0].save(moving, save_all=True, append_images=colors[1:])
    script = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    return {
        "bomb.png": (bomb(), r"bomb.png: more than [\d,]+ pixels; make it smaller"),
        "words.jpg": (b"no picture at all", "words.jpg"),
        "cut.jpg": (HOPPER.read_bytes()[:3000], "cut.jpg"),
        "empty.png": (b"", "empty.png"),
        "drawing.svg": (script, "drawing.svg"),
        "nobody.png": (nobody.read_bytes(), "No face found"),
        "moving.gif": (moving.read_bytes(), "No face found"),
    }


def test_a_friendly_line_for_all_that_is_no_photo(visit, server, tmp_path: Path):
    visitor = visit()
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    for name, (content, said) in files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        visitor.at("#photo input[type=file]").set_input_files(str(tmp_path / name))
        visitor.wait_for(said)
        assert "\n" not in visitor.message
        assert str(server.folder) not in visitor.message
        assert visitor.after == ""
        visitor.page.get_by_label("Remove Image").click()
        visitor.wait(lambda: visitor.message == "", "silence")
    assert process.memory_info().rss < before + 700e6
    visitor.upload(HOPPER)


def test_too_many_bytes_are_not_taken(visit, server, tmp_path: Path):
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(60 * 1024**2)
    visitor = visit()
    visitor.at("#photo input[type=file]").set_input_files(str(tmp_path / "long.png"))
    visitor.page.get_by_text("exceed the maximum allowed size").first.wait_for()
    assert all(path.stat().st_size < 50e6 for path in server.files())
    visitor.complaints.clear()  # the browser counts an answer that says no as one


CONTRAST = """() => {
  const channels = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return color.startsWith('color(') ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color[3] > 0.9) return color;
    }
    return [255, 255, 255];
  };
  const poor = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
    if (!words || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (!element.getClientRects().length || element.closest('style, script, [disabled], [aria-hidden=true]')) continue;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.4) poor.push(words + ': ' + ratio.toFixed(2));
  }
  return poor;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, select, textarea, a[href], img')].filter(e =>
  e.checkVisibility() && e.type !== 'file' && !e.closest('[aria-hidden=true]')).filter(e => e.matches('img')
  ? !e.hasAttribute('alt')
  : !(e.ariaLabel || e.title || e.innerText?.trim() || e.alt || [...(e.labels || [])].some(l => l.innerText.trim()))
).map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_and_controls_have_names(visit, scheme):
    visitor = visit(color_scheme=scheme)
    visitor.upload(HOPPER)
    visitor.open_settings()
    visitor.at("#auto input").uncheck()
    assert visitor.page.evaluate("document.documentElement.lang") == "en"
    assert visitor.page.evaluate(NAMELESS) == []
    assert visitor.page.evaluate(CONTRAST) == []
    assert visitor.at("#message [role=status]").count() == 1
    assert visitor.page.get_by_role("heading", level=1).inner_text() == "facegen"


def test_everything_is_reached_by_keys_and_shows_it(visit):
    visitor = visit()
    visitor.upload(HOPPER)
    visitor.open_settings()
    visitor.at("#auto input").uncheck()
    visitor.page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    seen = []
    look = """() => { const e = document.activeElement;
      const near = [e, e.closest('.compare'), e.closest('.block'), e.parentElement].filter(Boolean);
      const marked = n => [getComputedStyle(n).outlineStyle, getComputedStyle(n).boxShadow].some(v => v !== 'none');
      const shown = near.some(marked);
      return [e.tagName, e.ariaLabel || e.id || e.innerText?.trim() || e.name || e.type, shown]; }"""
    for _ in range(60):
        visitor.page.keyboard.press("Tab")
        tag, name, shown = visitor.page.evaluate(look)
        if tag == "BODY":
            break
        seen.append(name)
        assert shown, f"nobody sees that {name} has the focus"
    for name in ("Change age", "Latents", "Grace Hopper", "Age of face 1", "range slider for Age to show"):
        assert name in seen, seen
    for name in ("Border between the photo before and after", "refine", "save", "strip", "video"):
        assert name in seen, seen


@pytest.mark.parametrize("size", [(375, 812), (1280, 800)])
def test_nothing_is_wider_than_the_window(visit, size):
    visitor = visit(viewport={"width": size[0], "height": size[1]})
    visitor.upload(HOPPER)
    visitor.open_settings()
    for tab in ("Change age", "Latents"):
        visitor.page.get_by_role("tab", name=tab, exact=True).click()
        visitor.page.wait_for_timeout(300)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= size[0], tab
