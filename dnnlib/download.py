"""Downloads over http and https: one file, complete or not there; what was cut goes on where it was."""

from __future__ import annotations

import errno
import hashlib
import http
import json
import os
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urlsplit, urlunsplit

from .disk import flush_to_disk

if TYPE_CHECKING:
    import requests

CHUNK = 1 << 16  # bytes
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of the answer
ATTEMPTS = 4  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second attempt, doubled for each one after it
BUSY = {429, 500, 502, 503, 504}  # a later attempt may do better


class DownloadError(ConnectionError):
    """One line: the address, what went wrong, what to do."""


class _Interrupted(Exception):
    """This attempt brought no complete file; another one may."""


def local_name(url: str) -> str:
    """A file name for what is at `url`: a digest, which keeps apart what two servers call alike, and a readable rest.

    Raises:
        ValueError: not an http or https address.
    """
    name = re.sub(r"[^\w.-]", "_", _checked(url).path.rsplit("/", 1)[-1], flags=re.ASCII)[-80:].strip(".") or "file"
    return f"{hashlib.sha256(urldefrag(url).url.encode('utf-8', 'replace')).hexdigest()[:16]}_{name}"


def is_complete(path: Path, sha256: str | None = None) -> bool:
    """Whether the file is there and, where it is known, has this SHA-256 (in hex)."""
    return path.is_file() and (sha256 is None or sha256_of(path) == sha256.lower())


def fetch(url: str, path: str | os.PathLike[str], *, sha256: str | None = None, progress: bool = True) -> None:
    """Download `url` to `path`, unless a complete file is there (see `is_complete`).

    A download that is cut is taken up again, now or by the next call, where the server can tell that its file has not
    changed since; else it begins anew. Until then what came so far lies beside `path`, as `.<name>.part`. Of several
    processes that want the same path one downloads and the others wait for it.

    Args:
        url: http or https. A proxy is used where HTTP_PROXY, HTTPS_PROXY and NO_PROXY say so.
        path: The file. A missing folder is made.
        sha256: What the content must have, in hex.
        progress: Show a bar with the remaining time.

    Raises:
        ValueError: not an http or https address.
        DownloadError: no connection, refused, not the expected content, ...
        OSError: the file cannot be written.
    """
    _checked(url)
    path = Path(path)
    if is_complete(path, sha256):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, progress):
        if is_complete(path, sha256):  # the process that we waited for has fetched it
            return
        part = _Part(url, path)
        try:
            _receive(url, part, progress)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            part.remove()
            raise OSError(errno.ENOSPC, error.strerror, str(path.parent)) from error
        if not is_complete(part.data, sha256):
            found = f"{part.size()} bytes with the SHA-256 {sha256_of(part.data)}"
            part.remove()
            raise DownloadError(
                f"{_shown(url)}: what the server sent is not the expected file: {found}, not the SHA-256 {sha256}"
            )
        flush_to_disk(part.data)
        part.data.replace(path)
        part.remove()


class _Part:
    """What of a file has arrived, and a note beside it of which version of the file that is."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.data = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")

    def size(self) -> int:
        return self.data.stat().st_size if self.data.is_file() else 0

    def begin(self, version: str | None, total: int | None) -> None:
        """Forget what has arrived: the server's file is of this version and this many bytes."""
        self.remove()  # before the note: old data must never lie beside a new note
        note = {"url": self.url, "version": version, "total": total}
        self.note.write_text(json.dumps(note), encoding="utf-8")

    def resume(self) -> tuple[int, str | None, int | None]:
        """The bytes that can be kept, the version they are of and its size; 0 and None where there is nothing."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            url, version, total = note["url"], note["version"], note["total"]
        except (OSError, ValueError, TypeError, LookupError):
            return 0, None, None
        size = self.size()
        if url != self.url or not size or not version or (total is not None and size > total):
            return 0, None, None
        return size, version, total

    def remove(self) -> None:
        self.data.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path, progress: bool) -> Iterator[None]:
    """Keep other processes from downloading to `path`. The lock dies with its process; its empty file stays."""
    from filelock import FileLock, Timeout
    from tqdm import tqdm

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            tqdm.write(f"{path.name}: another process is downloading it; waiting for that", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _receive(url: str, part: _Part, progress: bool) -> None:
    """Attempt until all has arrived or nothing more comes."""
    import requests

    begun = False  # a server that never answered is not asked again
    most, in_vain = part.size(), 0  # a server that begins anew each time brings nothing
    while True:
        cause: Exception
        try:
            _attempt(url, part, progress)
            return
        except _Interrupted as error:
            reason, cause, begun = str(error), error, True
        except requests.RequestException as error:
            reason, cause = _reason(url, error), error
        in_vain = 0 if part.size() > most else in_vain + 1
        most = max(most, part.size())
        if in_vain == ATTEMPTS or not begun:
            kept = f"; the {part.size()} bytes that came are kept for the next try" if part.resume()[0] else ""
            raise DownloadError(f"{_shown(url)}: {reason}{kept}") from cause
        time.sleep(PAUSE * 2**in_vain)


def _attempt(url: str, part: _Part, progress: bool) -> None:
    """One request, for what has not arrived yet."""
    import requests

    start, version, total = part.resume()
    if start and start == total:  # killed between the last byte and the renaming
        return
    headers = {"Accept-Encoding": "identity"}
    if start and version:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        _check_status(url, answer)
        if answer.status_code == 200:
            start, total = 0, _total(answer)
            part.begin(_version(answer), total)
        elif not _goes_on(answer, start, version, total):
            part.remove()
            raise _Interrupted("the server's ranges do not fit together")
        free = shutil.disk_usage(part.data.parent).free
        if total is not None and total - start > free:
            raise OSError(errno.ENOSPC, f"{total - start} more bytes are needed, {free} are free")
        try:
            _receive_body(url, part, answer, start, total, progress)
        except requests.RequestException as error:
            raise _Interrupted(_reason(url, error)) from error
    if part.size() == 0:
        raise DownloadError(f"{_shown(url)}: the server sends an empty file")
    if total is not None and part.size() != total:
        cut = part.size() < total
        if not cut:
            part.remove()
        raise _Interrupted("the connection is cut" if cut else "the server sends more than it says")


def _receive_body(
    url: str, part: _Part, answer: requests.Response, start: int, total: int | None, progress: bool
) -> None:
    """Append what comes to what is there."""
    from tqdm import tqdm

    chunks = answer.iter_content(CHUNK)
    chunk = next(chunks, b"")
    if start == 0 and chunk.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise _page(url, answer)
    name = urlsplit(url).path.rsplit("/", 1)[-1][-40:]
    with (
        part.data.open("ab") as file,
        tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            chunk = next(chunks, b"")


def _check_status(url: str, answer: requests.Response) -> None:
    """Raise unless the answer has the file, or the rest of it, in it."""
    status = answer.status_code
    if urlsplit(url).scheme == "https":
        for step in (*answer.history, answer):
            if urlsplit(step.url).scheme != "https":
                raise DownloadError(f"{_shown(url)}: leads to {_shown(step.url)}, which is not encrypted: refused")
    if status == 416:
        return  # what lies here is not the beginning of the server's file: `_goes_on` will say no
    if status in BUSY:
        raise _Interrupted(f"the server answers {_status(status)}; try again later")
    if status in {401, 403, 407}:
        raise DownloadError(f"{_shown(url)}: the server answers {_status(status)}: it wants a login")
    if status in {404, 410}:
        raise DownloadError(f"{_shown(url)}: the server answers {_status(status)}: check the address")
    if status not in {200, 206}:
        raise DownloadError(f"{_shown(url)}: the server answers {_status(status)}")
    if answer.headers.get("Content-Type", "").split(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}:
        raise _page(url, answer)


def _page(url: str, answer: requests.Response) -> DownloadError:
    host = urlsplit(answer.url).hostname
    return DownloadError(
        f"{_shown(url)}: {host} sends a web page, not a file: a login, a question or an error to be read in a browser"
    )


def _status(status: int) -> str:
    try:
        return f"{status} ({http.HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _version(answer: requests.Response) -> str | None:
    """What names this very content in a later request; None where nothing does."""
    if _is_encoded(answer):
        return None
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _total(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not _is_encoded(answer) else None


def _is_encoded(answer: requests.Response) -> bool:
    """Whether the bytes on the way are not those of the file, so that neither length nor ranges mean anything."""
    return answer.headers.get("Content-Encoding", "identity").lower() != "identity"


def _goes_on(answer: requests.Response, start: int, version: str | None, total: int | None) -> bool:
    """Whether a partial answer begins at `start` of the version that we have."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return (
        start > 0
        and answer.status_code == 206
        and span is not None
        and int(span[1]) == start
        and (total is None or span[2] in {"*", str(total)})
        and _version(answer) in {None, version}
    )


def _reason(url: str, error: requests.RequestException) -> str:
    """What an error of requests means, and what to do about it."""
    from requests import exceptions

    causes = list(_causes(error))
    if isinstance(error, exceptions.ProxyError):
        return "the proxy does not let it through; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, exceptions.SSLError):
        why = next((c.verify_message for c in causes if isinstance(c, ssl.SSLCertVerificationError)), "TLS fails")
        return f"no safe connection ({why}); name the certificates of your company's proxy in REQUESTS_CA_BUNDLE"
    if isinstance(error, exceptions.TooManyRedirects):
        return "the server sends us round in circles"
    unreachable = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
    if isinstance(error, exceptions.ConnectTimeout) or any(
        isinstance(cause, socket.gaierror) or (isinstance(cause, OSError) and cause.errno in unreachable)
        for cause in causes
    ):
        return f"cannot reach {urlsplit(url).hostname} (no network?)"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "the server refuses the connection; check the network and the address"
    if isinstance(error, exceptions.Timeout) or any(isinstance(cause, TimeoutError) for cause in causes):
        return "the server does not answer in time; check the network"
    if isinstance(error, (exceptions.ConnectionError, exceptions.ChunkedEncodingError)):
        return "the connection is cut; check the network"
    return f"cannot be downloaded ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hex, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _checked(url: str) -> Any:
    """The parts of an address that can be downloaded."""
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0):
            return parts
    except ValueError:
        pass
    raise ValueError(f"{url}: not an address that can be downloaded; it must begin with http:// or https://")


def _shown(url: str) -> str:
    """The address without what may be secret: names, passwords, signatures."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "..." if parts.query else "", ""))
