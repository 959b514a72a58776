"""Take the pictures of the page that the docs show: on a desktop, on a phone, and its second tab.

Needs the extra dev (playwright) and a Chromium; the tests' visitor opens the page:

    PYTHONPATH=.:tests/app .venv/bin/python scripts/app_pictures.py
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from visiting import QUIET, Visitor, chromium, serving

from facegen.images import save_picture

IMAGES = Path(__file__).parents[1] / "docs" / "images"
EXAMPLE, YEARS, BORDER = "Grace Hopper", 25, 50  # percent before


def show_example(visitor: Visitor) -> None:
    """Take the example at another age by the editor, with the border through her face."""
    visitor.page.get_by_role("button", name=EXAMPLE).click()
    visitor.wait(lambda: visitor.after != "", "the example")
    visitor.open_settings()
    with visitor.changing():
        visitor.page.get_by_role("radio", name="editor").check()
    visitor.page.get_by_role("button", name="How faces change").click()
    number = visitor.at("#age input[type=number]")
    number.fill(str(YEARS))
    number.press("Tab")
    visitor.wait(lambda: visitor.at("#compare .after").get_attribute("alt") == f"The photo at age {YEARS}")
    visitor.at("#compare input").fill(str(BORDER))
    visitor.page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    visitor.page.wait_for_timeout(500)


def save(visitor: Visitor, name: str) -> None:
    """Write what the window shows with 256 colors: a third of the bytes."""
    visitor.page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(visitor.page.screenshot())).convert("RGB")
    path = save_picture(picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG), IMAGES / name, optimize=True)
    print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Serve the page, visit it three times, and take a picture each."""
    with serving() as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=QUIET)
        desktop = Visitor(browser, server.address, viewport={"width": 1120, "height": 800})
        show_example(desktop)
        save(desktop, "app.png")
        phone = Visitor(browser, server.address, viewport={"width": 375, "height": 812}, device_scale_factor=1.5)
        show_example(phone)
        phone.page.evaluate("document.querySelector('#age').scrollIntoView()")
        save(phone, "app-phone.png")
        latents = Visitor(browser, server.address, viewport={"width": 1120, "height": 800})
        latents.page.get_by_role("tab", name="Latents", exact=True).click()
        latents.page.get_by_label("Every age group").check()
        latents.wait(lambda: latents.page.locator("img:visible").count() >= 10, "a face of every age group")
        save(latents, "app-latents.png")
        browser.close()


if __name__ == "__main__":
    main()
