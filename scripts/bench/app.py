"""Time the page of `facegen app` in a browser: from a key on the slider to another picture, and a photo's first sight.

Needs the extra dev (playwright) and a Chromium; nothing else should run:

    PYTHONPATH=.:tests/app .venv/bin/python scripts/bench/app.py --moves 40
    PYTHONPATH=.:tests/app .venv/bin/python scripts/bench/app.py --photo me.jpg
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
from matplotlib.cbook import get_sample_data
from playwright.sync_api import sync_playwright
from visiting import QUIET, Visitor, chromium, serving

CHANGED = "before => document.querySelector('#compare .after').src !== before"


@click.command()
@click.option("--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Default: Grace Hopper.")
@click.option("--moves", default=40, show_default=True, help="Moves of the slider.")
def main(photo: Path | None, moves: int) -> None:
    """Serve the page, open a photo twice (the first time loads the networks), and move its slider."""
    photo = photo or Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    with serving() as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=QUIET)
        for words in ("first photo", "another photo"):
            visitor = Visitor(browser, server.address)
            start = time.monotonic()
            visitor.upload(photo)
            print(f"{words}: {time.monotonic() - start:.2f} s from the file to the faces at every age, found and drawn")
        seconds = []
        for move in range(moves):
            before, start = visitor.after, time.monotonic()
            visitor.slider.press("ArrowRight" if move < moves / 2 else "ArrowLeft")
            visitor.page.wait_for_function(CHANGED, arg=before)
            seconds.append(time.monotonic() - start)
        worst = sorted(seconds)[round(0.95 * (len(seconds) - 1))]
        print(f"a move of the slider: median {statistics.median(seconds):.3f} s, 95 of 100 within {worst:.3f} s")
        browser.close()


if __name__ == "__main__":
    main()
