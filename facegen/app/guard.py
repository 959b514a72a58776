"""Keeps the pages of other web sites away from a page that has no password."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class LocalOnly:
    """Refuses requests that the page of another web site made in the browser of somebody at this machine.

    Such a page can call itself by a name that leads to this machine (DNS rebinding): then the request's host is not one
    of ours. Or it sends what needs no answer: then the request's origin is not one of ours.

    Args:
        app: what answers all other requests.
        host: a further name of this machine.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._names = app, {*LOCAL_NAMES, host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if self._is_ours(f"//{headers.get('host', '')}") and (origin is None or self._is_ours(origin)):
                await self._app(scope, receive, send)
            else:
                await PlainTextResponse("Open this page as http://localhost.", 403)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)

    def _is_ours(self, address: str) -> bool:
        try:
            return urlsplit(address).hostname in self._names
        except ValueError:
            return False
