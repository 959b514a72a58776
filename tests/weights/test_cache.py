from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
import zipfile

import pytest
from facegen.beside.dnnlib import web
from helpers import start_python
from refusals import assert_refused
from weight_server import WeightServer, forget_settings

from facegen import beside
from facegen.errors import FacegenError
from facegen.weights.cache import cache_folder, download
from facegen.weights.load import load_generator

CONTENT = random.Random(0).randbytes(800_000)
OTHER = random.Random(1).randbytes(800_000)
HALF = 400_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and nothing of the machine's settings."""
    forget_settings(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(beside.download, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def server():
    with WeightServer() as server:
        yield server


def kept(cache):
    """The names of what lies in the cache for the user, and of what a later download goes on from."""
    names = [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [name for name in names if name[0] != "."], [name for name in names if name[0] == "."]


def fails(url, words, **options):
    """Downloading raises FacegenError: one short line with these words and the address."""
    message = assert_refused(words, download, url, progress=False, **options)
    assert len(message) < 500
    assert url.split("?")[0] in message
    return message


# --- the cache ---


def test_a_file_is_downloaded_once(server, cache):
    url = server.put("/nets/ffhq.pkl", CONTENT)
    path = download(url, progress=False)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    assert path.name.endswith("_ffhq.pkl")
    assert download(url) == path
    assert server.asked == ["/nets/ffhq.pkl"]
    assert kept(cache) == ([path.name], [])


def test_the_cache_is_where_the_platform_puts_caches(monkeypatch):
    monkeypatch.setenv("FACEGEN_CACHE", "")
    assert cache_folder().name in {"facegen", "Cache"}
    monkeypatch.setenv("FACEGEN_CACHE", "~/nets")
    assert "~" not in str(cache_folder())


def test_a_cache_that_cannot_be_written_says_which(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "file"))
    message = fails(server.put("/x.pkl", CONTENT), "cannot be written")
    assert str(tmp_path / "file") in message
    assert "FACEGEN_CACHE" in message


def test_what_is_in_the_cache_needs_no_server_and_no_lock(server, cache, monkeypatch):
    url = server.put("/x.pkl", CONTENT)
    path = download(url, progress=False)
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    monkeypatch.setattr(beside.download, "_alone", None)
    assert download(url) == path


def test_one_name_on_two_servers(server):
    with WeightServer() as second:
        paths = {download(s.put("/x.pkl", content)) for s, content in ((server, CONTENT), (second, OTHER))}
    assert {path.read_bytes() for path in paths} == {CONTENT, OTHER}


@pytest.mark.parametrize(
    "path",
    ["/..%2f..%2f..%2fevil", "/..", "/a/..\\..\\evil", f"/{'n' * 300}.pkl", "/%00", "/x.pkl?a=../../b", "/日本", "/"],
)
def test_addresses_name_no_other_place(server, cache, path):
    server.headers["Content-Disposition"] = 'attachment; filename="../../../evil"'
    server.any_path = CONTENT
    found = download(server.url + path, progress=False)
    assert found.parent == cache / "downloads"
    assert len(found.name) < 120


@pytest.mark.parametrize("url", ["ftp://h/x.pkl", "file:///etc/passwd", "http://", "http://[::1", "http://h:0/x"])
def test_what_is_no_address(url):
    assert_refused("must begin with http:// or https://", download, url)


# --- the content ---


def test_the_sha256_is_checked(server, cache):
    url = server.put("/x.pkl", CONTENT)
    right = hashlib.sha256(CONTENT).hexdigest()
    assert right in fails(url, "not the expected file", sha256="0" * 64)
    assert kept(cache) == ([], [])
    server.extra = None  # without Content-Length
    fails(url, "not the expected file", sha256="0" * 64)
    assert kept(cache) == ([], [])
    assert download(url, sha256=right.upper(), progress=False).read_bytes() == CONTENT


def test_a_damaged_copy_in_the_cache_is_replaced(server, monkeypatch):
    url = server.put("/x.pkl", CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = download(url, progress=False)
    path.write_bytes(OTHER)
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    fails(url, "forbids connecting", sha256=digest)
    assert path.exists()
    monkeypatch.delenv("FACEGEN_OFFLINE")
    assert download(url, sha256=digest, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, b"please log in"),
        ({"Content-Type": "application/octet-stream"}, b"\n<!DOCTYPE HTML><title>Login</title>"),
        ({}, b"<html><body>File too large to scan</body>"),
    ],
)
def test_a_web_page_is_no_network(server, cache, headers, content):
    server.put("/login", content)
    server.headers = headers
    server.redirects["/x.pkl"] = "/login"
    assert "download the file by hand" in fails(f"{server.url}/x.pkl", "sends a web page, not a file")
    assert kept(cache)[0] == []


def test_an_empty_file_is_no_network(server, cache):
    fails(server.put("/x.pkl", b""), "an empty file")
    assert kept(cache)[0] == []


# --- cut and taken up again ---


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_a_cut_download_goes_on(server, cache, validator):
    server.validator = validator
    server.cuts = [HALF]
    path = download(server.put("/x.pkl", CONTENT), progress=False)
    assert path.read_bytes() == CONTENT
    first, second = server.asked
    assert first == "/x.pkl"
    assert second.startswith("/x.pkl bytes=")
    assert 0 < int(second[13:-1]) <= HALF
    assert kept(cache) == ([path.name], [])


@pytest.mark.parametrize(("validator", "ranges"), [("", True), ("W/", True), ("ETag", False)])
def test_a_cut_download_begins_anew_where_it_cannot_go_on(server, validator, ranges):
    server.validator, server.ranges = validator, ranges
    server.cuts = [HALF]
    assert download(server.put("/x.pkl", CONTENT), progress=False).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_the_next_call_goes_on(server, cache, monkeypatch):
    monkeypatch.setattr(beside.download, "ATTEMPTS", 1)
    url = server.put("/x.pkl", CONTENT)
    server.cuts = [HALF, 0]
    assert "bytes that came are kept" in fails(url, "the connection is cut")
    assert kept(cache)[0] == []
    assert len(kept(cache)[1]) == 2
    assert download(url, progress=False).read_bytes() == CONTENT
    assert "bytes=" in server.asked[-1]


@pytest.mark.parametrize("respect_if_range", [True, False])
@pytest.mark.parametrize("changed", [OTHER, OTHER[:300_000], OTHER * 2])
def test_a_file_that_changes_meanwhile_is_not_glued(server, cache, monkeypatch, respect_if_range, changed):
    monkeypatch.setattr(beside.download, "ATTEMPTS", 1)
    url = server.put("/x.pkl", CONTENT)
    server.cuts = [HALF, 0]
    fails(url, "the connection is cut")
    monkeypatch.undo()
    monkeypatch.setenv("FACEGEN_CACHE", str(cache))
    monkeypatch.setattr(beside.download, "PAUSE", 0.0)
    server.put("/x.pkl", changed)
    server.respect_if_range = respect_if_range
    server.cuts = []
    assert download(url, progress=False).read_bytes() == changed


def test_a_server_that_always_cuts_is_given_up(server):
    server.cuts = [HALF] * 50
    server.ranges = False
    fails(server.put("/x.pkl", CONTENT), "the connection is cut")
    assert len(server.asked) == 1 + beside.download.ATTEMPTS


def test_a_length_that_is_a_lie_is_never_complete(server, cache):
    server.extra = 1000
    fails(server.put("/x.pkl", CONTENT), "the connection is cut")
    assert kept(cache)[0] == []


def test_a_download_killed_before_its_last_step_needs_no_server(server, cache):
    url = server.put("/x.pkl", CONTENT)
    path = download(url, progress=False)
    path.rename(path.with_name(f".{path.name}.part"))
    path.with_name(f".{path.name}.part.json").write_text(f'{{"url": "{url}", "version": "v", "total": {len(CONTENT)}}}')
    assert download(url, progress=False).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": "http://elsewhere/", "version": "v", "total": 9}'])
def test_a_note_that_says_nothing_begins_anew(server, note):
    url = server.put("/x.pkl", CONTENT)
    path = download(url, progress=False)
    path.rename(path.with_name(f".{path.name}.part"))
    path.with_name(f".{path.name}.part.json").write_text(note)
    server.put("/x.pkl", OTHER)
    assert download(url, progress=False).read_bytes() == OTHER


def test_what_is_packed_on_the_way_is_refused(server, cache):
    server.headers["Content-Encoding"] = "gzip"
    fails(server.put("/x.pkl", gzip.compress(CONTENT)), "could unpack to any size")
    assert kept(cache) == ([], [])
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in server.log)


# --- what others put there ---


def test_the_cache_is_its_owners_alone(server, cache):
    path = download(server.put("/x.pkl", CONTENT), progress=False)
    if os.name == "posix":
        assert [oct(folder.stat().st_mode & 0o777) for folder in (cache, path.parent)] == ["0o700", "0o700"]


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", [".{}.part", ".{}.part.json", ".{}.lock"])
def test_links_are_not_written_through(server, cache, tmp_path, link, name):
    url = server.put("/x.pkl", CONTENT)
    path = download(url, progress=False)
    path.unlink()
    precious = tmp_path / "precious"
    version = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    note = {"url": url, "version": version, "total": len(CONTENT)}
    for suffix, content in ((".part", CONTENT[:5]), (".part.json", json.dumps(note).encode())):
        path.with_name(f".{path.name}{suffix}").write_bytes(content)
    precious.write_text(json.dumps(note) if "json" in name else "precious")
    before = precious.read_text()
    planted = path.with_name(name.format(path.name))
    planted.unlink(missing_ok=True)
    link(precious, planted)
    with contextlib.suppress(FacegenError):  # there is a link where the lock should be
        assert download(url, progress=False).read_bytes() == CONTENT
    assert precious.read_text() == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners")
def test_a_strangers_file_in_a_folder_for_all_is_not_taken(server, cache, monkeypatch):
    url = server.put("/x.pkl", CONTENT)
    path = download(url, progress=False)
    path.write_bytes(OTHER)
    assert download(url).read_bytes() == OTHER  # its owner's own doing
    real = type(path).lstat

    def of_a_stranger(self):
        found = list(real(self))
        return os.stat_result([*found[:4], 4711, *found[5:]])

    monkeypatch.setattr(type(path), "lstat", of_a_stranger)
    assert download(url).read_bytes() == OTHER  # whom the folder's owner has let in
    path.parent.chmod(0o777)
    assert download(url, progress=False).read_bytes() == CONTENT


def test_a_damaged_download_leaves_the_cache(server, cache, tmp_path, monkeypatch):
    url = server.put("/x.safetensors", CONTENT)
    for _ in range(2):
        assert_refused("removed from the cache", load_generator, url)
        assert kept(cache) == ([], [])
    assert len(server.asked) == 2
    path = download(url, progress=False)
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    assert "removed" not in assert_refused("", load_generator, url)
    monkeypatch.delenv("FACEGEN_OFFLINE")
    own = path.rename(tmp_path / path.name)
    assert "removed" not in assert_refused("", load_generator, own)
    assert own.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("3.pkl", b"\x80\x02cother_program\nGenerator\n."),  # a pickle of another program
        ("code.pt", b"PK"),
        ("x.onnx", b"\x08\x07\x12\x07pytorch"),
    ],
)
def test_a_whole_download_of_another_kind_stays(server, cache, tmp_path, name, content):
    if content == b"PK":
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/data.pkl", b"x" * 1000)
        content = (tmp_path / "x.zip").read_bytes()
    url = server.put(f"/{name}", content)
    for _ in range(2):
        assert "removed" not in assert_refused("", load_generator, url)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.pkl", b"\x80\x02}q"), ("x.pt", b"PK\3\4" + bytes(99))],
)
def test_a_damaged_download_of_any_format_leaves_the_cache(server, cache, name, content):
    url = server.put(f"/{name}", content)
    assert_refused("removed from the cache", load_generator, url)
    assert kept(cache) == ([], [])


# --- no connection ---


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "check the address"), (403, "login"), (401, "login"), (410, "410"), (418, "418"), (599, "599")],
)
def test_the_server_says_no(server, cache, status, words):
    server.statuses = [status] * 9
    message = fails(server.url + "/x.pkl", words)
    assert f"{status}" in message
    assert "download the file by hand" in message
    assert len(server.asked) == 1
    assert kept(cache) == ([], [])


def test_a_busy_server_is_asked_again(server):
    url = server.put("/x.pkl", CONTENT)
    server.statuses = [503, 429]
    assert download(url, progress=False).read_bytes() == CONTENT
    server.statuses = [503] * 9
    fails(server.put("/y.pkl", CONTENT), "try again later")


def test_redirects(server):
    server.put("/real.pkl", CONTENT)
    server.redirects = {"/x.pkl": "/real.pkl", "/round": "/round"}
    assert download(f"{server.url}/x.pkl", progress=False).read_bytes() == CONTENT
    fails(f"{server.url}/round", "redirects in circles")
    server.redirects["/local"] = "file:///etc/passwd"
    fails(f"{server.url}/local", "which cannot be downloaded")


def test_nobody_listens():
    fails("http://127.0.0.1:9/x.pkl", "refuses the connection")


def test_no_such_host(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fails("https://weights.invalid/x.pkl", "cannot reach weights.invalid (no network?)")


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        TimeoutError("timed out"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ],
)
def test_no_network(monkeypatch, cause):
    def fail(*_, **__):
        raise cause

    monkeypatch.setattr("urllib3.util.connection.create_connection", fail)
    fails("https://weights.invalid/x.pkl", "cannot reach weights.invalid (no network?)")


def test_a_server_that_is_silent(server, monkeypatch):
    for name in ("START", "PATIENCE"):
        monkeypatch.setattr(f"facegen.beside.dnnlib.web.{name}", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fails(f"http://127.0.0.1:{silent.getsockname()[1]}/x.pkl", "does not answer in time")
    server.pause = 0.4
    fails(server.put("/x.pkl", CONTENT), "does not answer in time")


def test_a_server_without_tls(server):
    fails(server.put("/x.pkl", CONTENT).replace("http:", "https:"), "REQUESTS_CA_BUNDLE")


def test_from_https_to_http_is_refused():
    error = web.RefusedError
    message = assert_refused("not encrypted", web._redirected, "https://h/x", "http://h/x?key=secret", error=error)
    assert "secret" not in message


def test_secrets_in_addresses_are_not_shown(server):
    url = server.url.replace("//", "//user:word@") + "/x.pkl?signature=secret"
    message = assert_refused("404", download, url)
    assert "word" not in message
    assert "secret" not in message


@pytest.mark.parametrize("name", ["FACEGEN_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_connects_to_nobody(server, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    url = server.put("/x.pkl", CONTENT)
    assert "download the file by hand" in fails(url, "forbids connecting")
    assert server.asked == []
    monkeypatch.setenv(name, "0")
    download(url, progress=False)


def test_a_proxy_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.put("/x.pkl", CONTENT)
    assert download("http://weights.invalid/x.pkl", progress=False).read_bytes() == CONTENT
    assert server.asked == ["http://weights.invalid/x.pkl"]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    fails("http://weights.invalid/y.pkl", "check HTTP_PROXY")


# --- the disk ---


def test_a_file_that_does_not_fit_is_not_begun(server, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    message = fails(server.put("/x.pkl", CONTENT), "800000 more bytes are needed, 1000 are free")
    assert "FACEGEN_CACHE" in message
    assert kept(cache) == ([], [])


def test_a_disk_that_fills_up(server, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(beside.download, "_receive_body", full)
    fails(server.put("/x.pkl", CONTENT), "the disk is full")
    assert kept(cache) == ([], [])


# --- several processes ---


def start(url):
    return start_python("-c", f"from facegen.weights.cache import download; print(download({url!r}))")


def test_two_processes_download_once(server):
    server.pause = 0.1  # 13 pieces: long enough that both are there
    url = server.put("/x.pkl", CONTENT)
    processes = [start(url) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    paths = {out.strip() for out, _ in results}
    assert len(paths) == 1
    assert server.asked == ["/x.pkl"]
    assert sum("another process is downloading it" in err for _, err in results) == 1
    assert sum("100%" in err for _, err in results) == 1


def test_threads_of_one_process_download_once(server):
    server.pause = 0.01
    url = server.put("/x.pkl", CONTENT)
    threads = [threading.Thread(target=download, args=(url,), kwargs={"progress": False}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == ["/x.pkl"]
    assert download(url).read_bytes() == CONTENT


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_what_the_next_goes_on_from(server, cache, number):
    server.hold_at = 200_000
    url = server.put("/x.pkl", CONTENT)
    process = start(url)
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size > 100_000 for path in cache.rglob("*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=30)
    server.hold_at = None
    assert kept(cache)[0] == []
    assert download(url, progress=False).read_bytes() == CONTENT
    assert "bytes=" in server.asked[-1]
    assert kept(cache)[1] == []
