"""Serve the page: on this machine alone, unless asked otherwise."""

from __future__ import annotations

import hmac
import ipaddress
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from facegen.errors import FacegenError

WAITING = 60  # visitors in the queue; more are told to come back
VISITORS = 50  # whose photos are kept; of more, the one who was away longest has to drop the photo again


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    password: str | None = None,
    share: bool = False,
    public: bool = False,
    open_browser: bool = False,
    device: str | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        password: what visitors have to know; needed where others than this machine's users can reach the page.
        public: others may come without a password. For who shows the page to everybody on purpose, as a Space does.
        share: also publish it under an address of gradio's servers, which then pass all photos on.
        open_browser: show it.

    Raises:
        FacegenError: gradio is missing, the port is taken, or a password is.
    """
    if (share or not is_loopback(host)) and not (password or public):
        raise FacegenError("others can reach this page: give it a password")
    folder = tempfile.mkdtemp(prefix="facegen-app-")  # readable by this user alone
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = folder
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    try:
        _launch(host, port, password, share, open_browser, device)
    finally:
        tempfile.tempdir = None
        shutil.rmtree(Path(folder), ignore_errors=True)


def _app_options(host: str, password: str | None) -> dict[str, Any]:
    """Nothing that describes the page to programs; without a password, nothing for the pages of other web sites."""
    from starlette.middleware import Middleware

    local = is_loopback(host) and not password
    return {"openapi_url": None, "middleware": [Middleware(LocalOnly, host=host)] if local else []}


class LocalOnly:
    """Refuses requests that the page of another web site made in the browser of somebody at this machine.

    Such a page can call itself by a name that leads to this machine (DNS rebinding): then the request's host is not one
    of ours. Or it sends what needs no answer: then the request's origin is not one of ours.

    Args:
        app: answers all other requests; ASGI, as this one.
        host: a further name of this machine.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], host: str) -> None:
        self._app, self._names = app, {"localhost", "127.0.0.1", "::1", host}

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        addresses = [f"//{headers.get(b'host', '')}", headers.get(b"origin", "//localhost")]
        if all(self._is_ours(address) for address in addresses):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"Open this page as http://localhost."})

    def _is_ours(self, address: str) -> bool:
        try:
            return urlsplit(address).hostname in self._names
        except ValueError:
            return False


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _launch(host: str, port: int, password: str | None, share: bool, open_browser: bool, device: str | None) -> None:
    from facegen.aging.transfer import AgeTransfer
    from facegen.app.upload import MAX_BYTES
    from facegen.status import say

    try:
        from facegen.app.examples import example_photos
        from facegen.app.page import SCRIPT, STYLE, build_page, theme
    except ModuleNotFoundError as error:
        raise FacegenError('the page needs gradio: pip install "facegen[app]"') from error

    page = build_page(AgeTransfer.from_files(device=device))
    page.queue(max_size=WAITING)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=open_browser,
            auth=None
            if password is None
            else (lambda _, given: hmac.compare_digest(given.encode(), password.encode())),
            auth_message="Any name will do; the password is the one that you were told.",
            max_file_size=MAX_BYTES,
            allowed_paths=[str(path) for path in example_photos().values()],
            theme=theme(),
            css=STYLE,
            js=SCRIPT,
            footer_links=[],
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            pwa=False,
            state_session_capacity=VISITORS,
            quiet=True,
            prevent_thread_lock=True,
            app_kwargs=_app_options(host, password),
        )
    except OSError as error:
        raise FacegenError(
            f"port {port} of {host} cannot be used: another program may hold it; take another one with --port"
        ) from error
    say(f"Open {page.local_url}", "Ctrl-C ends it.")
    try:
        while True:
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        page.close(verbose=False)
