"""Servers that lie, flood, stall or send elsewhere: each gets one line and an end."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from facegen.beside.dnnlib import web
from refusals import assert_refused
from weight_server import WeightServer, forget_settings

from facegen import beside
from facegen.weights.cache import download

OK = b"HTTP/1.1 200 OK\r\n"
GO = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
PART = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: "
SOME = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and little patience."""
    forget_settings(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(beside.download, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A function that starts a server, which sends these pieces to whoever asks, and returns the address of a file."""
    over = threading.Event()
    listening = []

    def start(*pieces: bytes, pause: float = 0, endless: bytes = b"") -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def answer(connection: socket.socket) -> None:
            with connection:
                connection.recv(1 << 16)
                for piece in pieces:
                    connection.sendall(piece)
                while endless and not over.wait(pause):
                    connection.sendall(endless)

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_quietly, args=(answer, connection), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x.pkl"

    yield start
    over.set()
    for listener in listening:
        listener.close()


def _quietly(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError):  # the other side hung up
        answer(connection)


def fails(url, words):
    message = assert_refused(words, download, url, progress=False)
    assert len(message) < 800
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    "length", [b"9" * 5000, b"99999999999999999999", b"-5", b"5, 7", b"\xb2", b"1e3", str(5 * 1024**3).encode()]
)
def test_sizes_that_no_file_has(serve, length, cache):
    fails(serve(OK + b"Content-Length: " + length + b"\r\n\r\n", SOME), "")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    "place",
    [
        b"http://[::1",
        b"javascript:alert(1)",
        b"data:text/plain,x",
        b"ftp://127.0.0.1/x",
        b"http://127.0.0.1:99999999/x",
        b"\xff\xfe://x",
        b"http://\x1b]0;PWN\x07/" + b"x" * 10_000,
        b"http://" + b"a" * 300 + b".invalid/",
    ],
)
def test_places_that_are_none(serve, place):
    fails(serve(GO + place + b"\r\n\r\n"), "")


def test_what_comes_with_a_redirect_is_not_read(serve):
    with WeightServer() as real:
        place = real.put("/x.pkl", SOME).encode()
        url = serve(b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\n\r\n", endless=b"0" * 1000)
        assert download(url, progress=False).read_bytes() == SOME


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1/x", "http://169.254.169.254/x", "http://[::1]/x", "http://10.1.2.3"]
)
def test_a_stranger_does_not_send_us_into_our_own_network(monkeypatch, place):
    ask = socket.getaddrinfo

    def resolve(host, *more, **named):
        return ask("8.8.8.8" if host == "weights.example" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert_refused("own network", web._redirected, "http://weights.example/x", place, error=web.RefusedError)
    assert web._redirected("http://127.0.0.1:80/a", "http://127.0.0.1:8000/b") == "http://127.0.0.1:8000/b"
    assert web._redirected("http://weights.example/a", "//8.8.4.4/b") == "http://8.8.4.4/b"


def test_a_login_goes_to_its_own_server_alone():
    assert web._redirected("http://user:word@h/a", "/b") == "http://user:word@h/b"
    assert web._redirected("http://user:word@h/a", "http://h/b") == "http://user:word@h/b"
    assert web._redirected("http://user:word@h/a", "http://h:8000/b") == "http://h:8000/b"
    assert web._redirected("https://user:word@h/a", "https://other.invalid/b") == "https://other.invalid/b"


@pytest.mark.parametrize(
    "answer",
    [
        b"\0\1\2garbage\r\n\r\n",
        b"HTTP/1.1 999999 \x1b]0;PWN\x07\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        OK + b"".join(b"Y%d: b\r\n" % index for index in range(500)) + b"\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc\r\n",
        OK + b"Content-Encoding: identity, gzip\r\nContent-Length: 3\r\n\r\nabc",
        PART + b"bytes " + b"9" * 5000 + b"-1/2\r\n\r\nabc",
        PART + b"bytes 0-2/3\r\n\r\nabc",
        b"",
    ],
)
def test_answers_that_are_broken(serve, answer):
    fails(serve(answer), "")


@pytest.mark.parametrize(
    ("header", "resumed"),
    [(b'ETag: "a"', True), (b'ETag: "\x1b]0;PWN"', False), (b"ETag: " + b"e" * 60_000, False), (b'ETag: W/"a"', False)],
)
def test_versions_are_short_and_plain(serve, monkeypatch, header, resumed):
    monkeypatch.setattr(beside.download, "ATTEMPTS", 1)
    url = serve(OK + b"Content-Length: 200000\r\n" + header + b"\r\n\r\n", SOME)
    assert ("are kept for the next try" in fails(url, "the connection is cut")) == resumed


@pytest.mark.parametrize("beginning", [b"", OK + b"Content-Length: 1000000\r\n\r\n", b"HTTP/1.1 100 Continue\r\n"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(serve, monkeypatch, beginning):
    for name in ("START", "PATIENCE"):
        monkeypatch.setattr(web, name, 0.3)
    start = time.monotonic()
    fails(serve(beginning, pause=0.05, endless=b"H"), "does not answer in time")
    assert time.monotonic() - start < 5


def test_a_slow_line_that_goes_on_is_waited_for(serve, monkeypatch):
    monkeypatch.setattr(web, "PIECE", 100)
    monkeypatch.setattr(web, "PATIENCE", 1.0)
    url = serve(OK + b"Content-Length: 1000\r\n\r\n", pause=0.02, endless=b"x" * 20)  # a second in all
    assert download(url, progress=False).read_bytes() == b"x" * 1000


def test_what_never_ends_is_given_up(serve, monkeypatch, cache):
    monkeypatch.setattr(beside.download, "MAX_BYTES", 10**6)
    fails(serve(OK + b"\r\n", endless=SOME), "sends more than")
    monkeypatch.setattr(beside.download, "MAX_BYTES", 10**12)
    usage = iter([10**12, 10**12, 10**9])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, next(usage, 10**6)))
    fails(serve(OK + b"\r\n", endless=SOME), "the disk is full")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_what_is_resumed_is_hashed_once(monkeypatch):
    digest = hashlib.sha256(SOME * 8).hexdigest()
    monkeypatch.setattr(beside.download, "sha256_of", None)
    with WeightServer() as server:
        server.cuts = [len(SOME) * 4, len(SOME)]
        path = download(server.put("/x.pkl", SOME * 8), sha256=digest, progress=False)
        assert path.read_bytes() == SOME * 8
        assert len(server.asked) == 3
        assert_refused("not the expected file", download, server.put("/y.pkl", SOME), sha256=digest, progress=False)
