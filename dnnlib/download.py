"""Downloads over http and https: a file is complete or absent, and an interrupted download continues."""

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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

from .disk import flush_to_disk
from .own_files import create_own, is_own, open_own
from .web import Answer, RefusedError, TooSlowError, checked, shown

if TYPE_CHECKING:
    import requests

ATTEMPTS = 4  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second attempt, doubled for each one after it
BUSY = {429, 500, 502, 503, 504}  # a later attempt may do better
MAX_BYTES = 4 * 1024**3  # of a file; the largest network of the StyleGAN family has 0.4 GB
KEPT_FREE = 256 * 1024**2  # bytes of the disk that a file of unknown size leaves to others
MAX_NOTE = 1 << 16  # bytes
_NUMBER = r"\d{1,15}"  # of bytes; Python refuses to read numbers of 5,000 digits


class DownloadError(ConnectionError):
    """One line: the address, what went wrong, what to do."""


class _Interrupted(Exception):
    """This attempt brought no complete file; another one may."""


def local_name(url: str) -> str:
    """A file name for what is at `url`: a digest, which keeps apart what two servers call alike, and a readable rest.

    Raises:
        ValueError: not an http or https address.
    """
    name = re.sub(r"[^\w.-]", "_", checked(url).path.rsplit("/", 1)[-1], flags=re.ASCII)[-80:].strip(".") or "file"
    return f"{hashlib.sha256(urldefrag(url).url.encode('utf-8', 'replace')).hexdigest()[:16]}_{name}"


def is_complete(path: Path, sha256: str | None = None) -> bool:
    """Whether the file is there and, where it is known, has this SHA-256 (in hex).

    Without one, a file that a stranger may have put there (see `own_files.is_own`) counts as not there.
    """
    if not path.is_file():
        return False
    return is_own(path) if sha256 is None else sha256_of(path) == sha256.lower()


def fetch(url: str, path: str | os.PathLike[str], *, sha256: str | None = None, progress: bool = True) -> None:
    """Download `url` to `path`, unless a complete file is there (see `is_complete`).

    A download that is cut is taken up again, now or by the next call, where the server can tell that its file has not
    changed since; else it starts over. Until then the part that arrived is next to `path`, as `.<name>.part`. Of
    several processes that want the same path one downloads and the others wait for it.

    A server that is slower than 2 kB a second is given up, as is one that sends more than MAX_BYTES.

    Args:
        url: http or https. A proxy is used where HTTP_PROXY, HTTPS_PROXY and NO_PROXY say so.
        path: The file. A missing folder is made, for its owner alone.
        sha256: What the content must have, in hex.
        progress: Show a bar with the remaining time.

    Raises:
        ValueError: not an http or https address.
        DownloadError: no connection, refused, not the expected content, ...
        OSError: the file cannot be written.
    """
    checked(url)
    path = Path(path)
    if is_complete(path, sha256):
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path, progress):
        if is_complete(path, sha256):  # the process that we waited for has fetched it
            return
        part = _Part(url, path, hashed=sha256 is not None)
        try:
            _receive(url, part, progress)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            part.remove()
            raise OSError(errno.ENOSPC, error.strerror, str(path.parent)) from error
        if sha256 is not None and part.sha256() != sha256.lower():
            found = f"{part.size()} bytes with the SHA-256 {part.sha256()}"
            part.remove()
            raise DownloadError(
                f"{shown(url)}: what the server sent is not the expected file: {found}, not the SHA-256 {sha256}"
            )
        flush_to_disk(part.data)
        part.data.replace(path)
        part.remove()


class _Part:
    """What of a file has arrived, and a note beside it of which version of the file that is."""

    def __init__(self, url: str, path: Path, hashed: bool) -> None:
        self.url = url
        self.data = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")
        self._hashed = hashed
        self._digest, self._digested = hashlib.sha256(), 0  # of so many bytes

    def size(self) -> int:
        return self.data.stat().st_size if self.data.is_file() else 0

    def begin(self, version: str | None, total: int | None) -> None:
        """Forget what has arrived: the server's file is of this version and this many bytes."""
        self.remove()  # before the note: old data must never lie beside a new note
        self._digest, self._digested = hashlib.sha256(), 0
        note = {"url": self.url, "version": version, "total": total}
        with os.fdopen(create_own(self.note, 0o600), "w", encoding="utf-8") as file:  # an address can be a secret
            json.dump(note, file)

    def resume(self) -> tuple[int, str | None, int | None]:
        """The bytes that can be kept, the version they are of and its size; 0 and None where there is nothing."""
        try:
            with os.fdopen(open_own(self.note, os.O_RDONLY), "rb") as file:
                note = json.loads(file.read(MAX_NOTE))
            url, version, total = note["url"], note["version"], note["total"]
            with os.fdopen(open_own(self.data, os.O_RDONLY), "rb") as file:
                size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return 0, None, None
        fits = total is None or (type(total) is int and size <= total)
        if url != self.url or not size or not isinstance(version, str) or not fits:
            return 0, None, None
        return size, version, total

    @contextmanager
    def writing(self, start: int) -> Iterator[Callable[[bytes], None]]:
        """Give a function that writes a piece behind the `start` bytes that are there, and hashes it on the way."""
        if self._hashed and self._digested != start:  # another process received the beginning
            self._digest, self._digested = hashlib.sha256(), start
            with os.fdopen(open_own(self.data, os.O_RDONLY), "rb") as beginning:
                while piece := beginning.read(1 << 20):
                    self._digest.update(piece)
        opened = open_own(self.data, os.O_WRONLY | os.O_APPEND) if start else create_own(self.data, 0o666)
        with os.fdopen(opened, "ab") as file:

            def write(piece: bytes) -> None:
                file.write(piece)
                if self._hashed:
                    self._digest.update(piece)
                    self._digested += len(piece)

            yield write

    def sha256(self) -> str:
        """The SHA-256 of what has arrived, in hex."""
        return self._digest.hexdigest() if self._digested == self.size() else sha256_of(self.data)

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
    most, in_vain = part.size(), 0  # a server that starts over each time makes no progress
    while True:
        cause: Exception
        try:
            _attempt(url, part, progress)
            return
        except RefusedError as error:
            raise DownloadError(f"{shown(url)}: {error}") from error
        except _Interrupted as error:
            reason, cause, begun = str(error), error, True
        except (requests.RequestException, TooSlowError) as error:
            reason, cause = _reason(url, error), error
        in_vain = 0 if part.size() > most else in_vain + 1
        most = max(most, part.size())
        if in_vain == ATTEMPTS or not begun:
            kept = f"; the {part.size()} bytes that came are kept for the next try" if part.resume()[0] else ""
            raise DownloadError(f"{shown(url)}: {reason}{kept}") from cause
        time.sleep(PAUSE * 2 ** max(in_vain - 1, 0))


def _attempt(url: str, part: _Part, progress: bool) -> None:
    """One request, for what has not arrived yet."""
    import requests

    start, version, total = part.resume()
    if start and start == total:  # killed between the last byte and the renaming
        return
    headers = {"Accept-Encoding": "identity"}
    if start and version:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    with closing(Answer(url, headers)) as answer:
        response = answer.response
        _check_status(response)
        if response.status_code == 200:
            start, total = 0, _total(response)
            part.begin(_version(response), total)
        elif not _goes_on(response, start, version, total):
            part.remove()
            raise _Interrupted("the server's ranges do not fit together")
        free = shutil.disk_usage(part.data.parent).free
        if total is not None and total - start > free:
            raise OSError(errno.ENOSPC, f"{total - start} more bytes are needed, {free} are free")
        try:
            _receive_body(url, part, answer, start, total, progress)
        except (requests.RequestException, TooSlowError) as error:
            raise _Interrupted(_reason(url, error)) from error
    if part.size() == 0:
        raise RefusedError("the server sends an empty file")
    if total is not None and part.size() != total:
        cut = part.size() < total
        if not cut:
            part.remove()
        raise _Interrupted("the connection is cut" if cut else "the server sends more than it announced")


def _receive_body(url: str, part: _Part, answer: Answer, start: int, total: int | None, progress: bool) -> None:
    """Append what comes to what is there."""
    from tqdm import tqdm

    pieces = answer.pieces()
    piece = next(pieces, b"")
    if start == 0 and piece.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise _page(answer.response)
    name = urlsplit(shown(url)).path.rsplit("/", 1)[-1][-40:]
    room = MAX_BYTES - start
    with (
        part.writing(start) as write,
        tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        while piece:
            room -= len(piece)
            if room < 0:
                raise _too_large(part)
            if total is None and shutil.disk_usage(part.data.parent).free < KEPT_FREE:
                raise OSError(errno.ENOSPC, "the server does not say how much it sends, and little is free")
            write(piece)
            bar.update(len(piece))
            piece = next(pieces, b"")


def _too_large(part: _Part) -> RefusedError:
    part.remove()
    return RefusedError(f"the server sends more than {MAX_BYTES // 1024**2:,d} MB; no network is so large: refused")


def _check_status(response: requests.Response) -> None:
    """Raise unless the response has the file, or the rest of it, in it."""
    status = response.status_code
    if status == 416:
        return  # what lies here is not the beginning of the server's file: `_goes_on` will say no
    if status in BUSY:
        raise _Interrupted(f"the server answers {_status(status)}; try again later")
    if status in {401, 403, 407}:
        raise RefusedError(f"the server answers {_status(status)}: it requires a login")
    if status in {404, 410}:
        raise RefusedError(f"the server answers {_status(status)}: check the address")
    if status not in {200, 206}:
        raise RefusedError(f"the server answers {_status(status)}")
    if response.headers.get("Content-Type", "").split(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}:
        raise _page(response)


def _page(response: requests.Response) -> RefusedError:
    host = urlsplit(shown(response.url)).hostname
    return RefusedError(f"{host} sends a web page, not a file: a login, a question or an error to be read in a browser")


def _status(status: int) -> str:
    try:
        return f"{status} ({http.HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _version(response: requests.Response) -> str | None:
    """What names this very content in a later request; None where nothing does."""
    tag = response.headers.get("ETag")
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    return version if version and re.fullmatch("[ -~]{1,1000}", version) else None


def _total(response: requests.Response) -> int | None:
    """The size of the file, where the server says it."""
    said = response.headers.get("Content-Length")
    if said is None or "chunked" in response.headers.get("Transfer-Encoding", "").lower():
        return None
    if not re.fullmatch(_NUMBER, said, flags=re.ASCII):
        raise RefusedError("the server announces an impossible size")
    if int(said) > MAX_BYTES:
        raise RefusedError(f"{int(said):,} bytes; no network has more than {MAX_BYTES // 1024**2:,d} MB: refused")
    return int(said)


def _goes_on(response: requests.Response, start: int, version: str | None, total: int | None) -> bool:
    """Whether a partial answer begins at `start` of the version that we have."""
    span = re.fullmatch(rf"bytes ({_NUMBER})-\d+/(\d+|\*)", response.headers.get("Content-Range", ""), flags=re.ASCII)
    return (
        start > 0
        and response.status_code == 206
        and span is not None
        and int(span[1]) == start
        and (total is None or span[2] in {"*", str(total)})
        and _version(response) in {None, version}
    )


def _reason(url: str, error: Exception) -> str:
    """What an error of requests, or a TooSlowError, means, and what to do about it."""
    from requests import exceptions

    causes = list(_causes(error))
    if isinstance(error, exceptions.ProxyError):
        return "the proxy does not let it through; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, exceptions.SSLError):
        why = next((c.verify_message for c in causes if isinstance(c, ssl.SSLCertVerificationError)), "TLS fails")
        return f"no safe connection ({why}); name the certificates of your company's proxy in REQUESTS_CA_BUNDLE"
    unreachable = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
    if isinstance(error, exceptions.ConnectTimeout) or any(
        isinstance(cause, socket.gaierror) or (isinstance(cause, OSError) and cause.errno in unreachable)
        for cause in causes
    ):
        return f"cannot reach {urlsplit(url).hostname} (no network?)"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "the server refuses the connection; check the network and the address"
    if isinstance(error, (TooSlowError, exceptions.Timeout)) or any(
        isinstance(cause, TimeoutError) for cause in causes
    ):
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
