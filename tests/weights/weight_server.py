"""A web server for tests that behaves as badly as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PIECE = 1 << 16  # bytes written at once


def forget_settings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Take this cache, and nothing of the machine's settings."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FACEGEN_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("FACEGEN_CACHE", str(cache))


class WeightServer(ThreadingHTTPServer):
    """Serves `files` (path -> content). The other attributes say what goes wrong; `log` has what was asked.

    Attributes:
        any_path: The content of all other paths; None: they are not there.
        cuts: After so many bytes each of the next answers with a body ends.
        statuses: The next answers are these and nothing else.
        missing: How paths that are not there are answered: the status, and the X-Error-Code of the hub.
        ranges: Range requests are understood.
        validator: What names the version of a file: "ETag", "W/" (a weak one), "Last-Modified" or "".
        respect_if_range: A Range for another version of the file gets the whole file, as it should.
        extra: So many bytes more than there are stand in Content-Length; None: no Content-Length.
        headers: Sent with every answer.
        pause: Seconds before each piece.
        hold_at: So many bytes are sent, and no more until it is None again.
        redirects: Path -> address.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.any_path: bytes | None = None
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.missing = (404, "")
        self.ranges = True
        self.validator = "ETag"
        self.respect_if_range = True
        self.extra: int | None = 0
        self.headers: dict[str, str] = {}
        self.pause = 0.0
        self.hold_at: int | None = None
        self.redirects: dict[str, str] = {}

    def __enter__(self) -> WeightServer:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the other side hung up: what half the tests are about

    def put(self, path: str, content: bytes) -> str:
        """Serve a file; return its address."""
        self.files[path] = content
        return self.url + path

    @property
    def asked(self) -> list[str]:
        """The paths of all GET requests so far, with the range where one was asked for."""
        return [
            path + (f" {headers['Range']}" if "Range" in headers else "")
            for method, path, headers in self.log
            if method == "GET"
        ]


class _Handler(BaseHTTPRequestHandler):
    server: WeightServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        server = self.server
        server.log.append((self.command, self.path, dict(self.headers)))
        path = re.sub(r"^http://[^/]+", "", self.path).split("?")[0]  # a proxy is asked for whole addresses
        if server.statuses:
            self.send_error(server.statuses.pop(0))
        elif path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif (content := server.files.get(path, server.any_path)) is None:
            status, code = server.missing
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
        else:
            self._send(content, with_body)

    def _send(self, content: bytes, with_body: bool) -> None:
        server = self.server
        version = self._version(content)
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and server.ranges:
            same = self.headers.get("If-Range") in {None, version.get("ETag"), version.get("Last-Modified")}
            if same or not server.respect_if_range:
                start, status = int(asked[1]), 206
                if start >= len(content):
                    self.send_error(416)
                    return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        if server.extra is not None:
            self.send_header("Content-Length", str(len(body) + server.extra))
        for name, value in {**version, **server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        for at in range(0, len(body), PIECE):
            time.sleep(server.pause)
            while server.hold_at is not None and at >= server.hold_at:
                time.sleep(0.01)
            self.wfile.write(body[at : at + PIECE])

    def _version(self, content: bytes) -> dict[str, str]:
        digest = hashlib.sha256(content).hexdigest()
        if self.server.validator == "Last-Modified":
            seconds = int(digest[:8], 16)
            return {"Last-Modified": formatdate(seconds, usegmt=True)}
        if self.server.validator == "W/":
            return {"ETag": f'W/"{digest}"'}
        return {"ETag": f'"{digest}"'} if self.server.validator else {}

    def log_message(self, *_: object) -> None:
        pass
