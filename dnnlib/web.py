"""One request over http or https, to a server that may do anything: what it sends is bounded in time, and is the file.

A server that sends a byte a minute keeps a connection alive for ever. So a thread of its own asks and receives, and the
caller waits for it only as long as it wants to.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    import requests

PIECE = 1 << 16  # bytes
CONNECT = 10.0  # seconds
START = 60.0  # seconds up to the headers, redirects and all
PATIENCE = 30.0  # seconds for a piece: who sends less than 2 kB a second is given up
MOST_REDIRECTS = 10
MOST_SHOWN = 300  # letters of an address in a message
PACKED = {"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"}


class RefusedError(Exception):
    """The download is impossible, now and later. The message says why, to follow a URL."""


class TooSlowError(Exception):
    """The server sent too little for too long."""


class Answer:
    """What a server answers to a GET.

    Attributes:
        response: status and headers; its body comes from `pieces`.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        """Ask, and wait for the headers.

        Raises:
            RefusedError: it leads to where facegen does not go, or is packed.
            TooSlowError, requests.RequestException: no answer; a later attempt may get one.
        """
        self._arrived: queue.Queue[Any] = queue.Queue(maxsize=16)
        self._left = threading.Event()
        threading.Thread(target=self._receive, args=(url, headers), daemon=True).start()
        self.response: requests.Response = self._wait(START)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces of up to 64 KiB. Raises TooSlowError or requests.RequestException."""
        while piece := self._wait(PATIENCE):
            yield piece

    def close(self) -> None:
        """Hang up, so that the thread ends."""
        self._left.set()
        with suppress(OSError, ValueError, AttributeError):  # there is no connection any more
            number = self.response.raw.fileno()
            with socket.fromfd(number, socket.AF_INET, socket.SOCK_STREAM) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def _wait(self, seconds: float) -> Any:
        try:
            found = self._arrived.get(timeout=seconds)
        except queue.Empty:
            self._left.set()
            raise TooSlowError from None
        if isinstance(found, BaseException):
            raise found
        return found

    def _receive(self, url: str, headers: dict[str, str]) -> None:
        """Run in the thread: put the response, its body piece by piece, and b"" or what went wrong."""
        import requests
        from urllib3.exceptions import HTTPError

        try:
            with requests.Session() as session, _follow(session, url, headers) as response:
                going_on = self._put(response)
                pieces = response.iter_content(PIECE)
                while going_on:
                    piece = next(pieces, b"")
                    going_on = self._put(piece) and piece != b""
        except requests.RequestException as error:
            self._put(error)
        except (ValueError, HTTPError, http.client.HTTPException) as error:  # of a header that no library expects
            refused = RefusedError(f"the server's answer cannot be understood ({type(error).__name__})")
            refused.__cause__ = error
            self._put(refused)
        except BaseException as error:
            self._put(error)

    def _put(self, what: object) -> bool:
        """Hand it to the caller; False if there is no caller any more."""
        while not self._left.is_set():
            with suppress(queue.Full):
                self._arrived.put(what, timeout=0.5)
                return True
        return False


def checked(url: str) -> SplitResult:
    """Return the parts of an address that can be downloaded.

    Raises:
        ValueError: not an http or https address.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0):
            return parts
    except ValueError:
        pass
    raise ValueError(f"{url}: not an address that can be downloaded; it must begin with http:// or https://")


def shown(url: str) -> str:
    """Return an address as text for people, without what may be secret: names, passwords, signatures."""
    try:
        parts = urlsplit(url)
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "..." if parts.query else "", ""))
    except ValueError:
        pass
    url = "".join(letter if letter.isprintable() else "?" for letter in url)
    return url if len(url) <= MOST_SHOWN else f"{url[:MOST_SHOWN]}..."


def _follow(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Ask, and ask where the server sends us on to."""
    # Else requests reads all that comes with a redirect into memory, even one that it is not to follow.
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
    for _ in range(MOST_REDIRECTS + 1):
        response = session.get(url, stream=True, timeout=(CONNECT, START), headers=headers, allow_redirects=False)
        if not response.is_redirect:
            packings = {word.strip().lower() for word in response.headers.get("Content-Encoding", "").split(",")}
            if packings & PACKED:
                response.close()
                raise RefusedError(
                    "the server compresses the file although it was asked not to: it could unpack to any size"
                )
            return response
        response.close()
        url = _redirected(url, response.headers["Location"].encode("latin-1").decode("utf-8", "replace"))
    raise RefusedError("the server redirects in circles")


def _redirected(url: str, location: str) -> str:
    """Return the address that a server at `url` redirects to, unless it must not be followed."""
    came = urlsplit(url)
    try:
        target = urljoin(url, location)
        parts = checked(target)
    except ValueError:
        raise RefusedError(f"leads to {shown(location)!r}, which cannot be downloaded") from None
    if came.scheme == "https" and parts.scheme != "https":
        raise RefusedError(f"leads to {shown(target)}, which is not encrypted: refused")
    if _is_inside(parts.hostname) and not _is_inside(came.hostname):
        raise RefusedError(f"leads to {shown(target)}, which is in this machine's own network: refused")
    if (parts.scheme, parts.netloc) == (came.scheme, came.netloc.rpartition("@")[2]):
        return urlunsplit(parts._replace(netloc=came.netloc))  # the same server may know who asks
    return target


def _is_inside(host: str | None) -> bool:
    """Whether a host is this machine, or in a network that the world cannot reach: a stranger must not send us there.

    A redirect can so make us ask for `http://localhost/shutdown`, or for what a cloud tells its own machines.
    """
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False  # only a proxy knows it
    return any(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)
