"""A server of the page in a process of its own, and a person who visits it with a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
# It is quiet, and starts where there is neither a screen nor a sandbox.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
SECONDS = 60  # that anything may take on a busy machine


class Server:
    """A page that is served. `log` is all that it said."""

    def __init__(self, folder: Path, changes: dict, options: tuple[str, ...]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.folder, self._log = folder, folder / "log"
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        line = [sys.executable, str(HERE / "served.py"), json.dumps(changes), "--port", str(self.port), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        end = time.monotonic() + SECONDS
        while "Open http" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def files(self) -> list[Path]:
        """All files that the server keeps."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path != self._log]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.contextmanager
def serving(*options: str, **changes: object) -> Iterator[Server]:
    """Serve the page with other constants of its modules, and see that nothing went wrong."""
    with tempfile.TemporaryDirectory(prefix="app-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder), changes, options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.end()
        assert "Traceback" not in server.log, server.log
        assert "OUTSIDE" not in server.log, server.log


def chromium() -> str | None:
    """The path of the machine's Chromium or Chrome; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Visitor:
    """A person at the page, in a window of their own."""

    def __init__(self, browser, address: str, **window: object) -> None:
        window.setdefault("viewport", {"width": 1280, "height": 900})
        self.context = browser.new_context(reduced_motion="reduce", locale="en-US", **window)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * SECONDS)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.page.goto(address)
        self.page.wait_for_selector("#photo input[type=file]", state="attached")

    def at(self, selector: str):
        return self.page.locator(selector)

    @property
    def message(self) -> str:
        return self.at("#message .said").inner_text().strip()

    @property
    def after(self) -> str:
        """The address of the photo at another age; it holds the picture."""
        return self.at("#compare .after").get_attribute("src") or ""

    @property
    def slider(self):
        return self.at("#age input[type=range]")

    def wait(self, condition: Callable[[], bool], what: str = "") -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what or 'it'} did not happen; the page says: {self.message}"
            self.page.wait_for_timeout(30)

    def wait_for(self, pattern: str) -> None:
        """Wait until the page says this."""
        self.wait(lambda: re.search(pattern, self.message) is not None, repr(pattern))

    def upload(self, path: Path | str) -> None:
        """Drop a photo with a face, and wait until it is shown at another age."""
        before = self.after
        self.at("#photo input[type=file]").set_input_files(str(path))
        self.wait(lambda: self.after not in ("", before), "the photo")
        self.wait_for("looks? ")

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """What is done in here changes the photo at another age."""
        before = self.after
        yield
        self.wait(lambda: self.after != before, "another photo")

    def open_settings(self) -> None:
        self.page.get_by_role("button", name="How faces change").click()
        self.at("#refine").wait_for()
