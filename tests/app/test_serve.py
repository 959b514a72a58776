"""The server: who reaches it, what it gives away, what it forgets, and how it ends."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from visiting import ROOT, Server, serving

from facegen.app.serve import is_loopback, serve
from facegen.errors import FacegenError

pytest.importorskip("gradio", reason="the page needs gradio")


def ask(server: Server, path: str = "/", method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers={"Host": f"127.0.0.1:{server.port}", **headers})
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_another_name_for_this_machine_is_refused(server, host):
    assert ask(server, Host=host).status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example", "file://"])
def test_the_pages_of_other_sites_are_refused(server, origin):
    for path, method in (("/config", "GET"), ("/gradio_api/upload", "POST"), ("/gradio_api/queue/join", "POST")):
        answer = ask(server, path, method, Origin=origin)
        assert answer.status == 403
        assert answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}"])
def test_its_own_names_are_known(server, host):
    host = host.format(server.port)
    assert ask(server, Host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/self/environ", "{root}/pyproject.toml", "../../../../etc/passwd"]
)
@pytest.mark.parametrize("prefix", ["/file=", "/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/"])
def test_files_of_the_machine_are_not_given_away(server, prefix, path):
    answer = ask(server, prefix + path.format(root=ROOT))
    assert answer.status in {403, 404}
    assert b"root:" not in answer.body


def test_programs_find_no_interface(server):
    assert ask(server, "/openapi.json").status == 404
    assert ask(server, "/docs").status == 404
    assert ask(server, "/gradio_api/info").body == b'{"named_endpoints":{},"unnamed_endpoints":{}}'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_deletes_everything(number):
    with serving() as server:
        folders = list(server.folder.glob("facegen-app-*"))
        assert len(folders) == 1
        if sys.platform != "win32":
            assert folders[0].stat().st_mode & 0o077 == 0
        with urllib.request.urlopen(server.address + "config") as answer:
            assert b"Age to show" in answer.read()
        assert server.end(number) == (0 if number == signal.SIGINT else 143)
        assert list(server.folder.glob("facegen-app-*")) == []
        assert "Traceback" not in server.log


def test_a_password_is_asked_for():
    with serving("--password", "a secret") as server:
        assert b"Age to show" not in ask(server, "/config").body
        assert ask(server, "/gradio_api/queue/join", "POST").status == 401
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for given, status in (("wrong", 400), ("", 400), ("a+secret", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("POST", "/login", f"username=anybody&password={given}", form)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 422:  # nothing given
                continue
            assert answer.status == status, given
        cookie = answer.getheader("Set-Cookie").partition(";")[0]
        assert "httponly" in answer.getheader("Set-Cookie").lower()
        assert b"Age to show" in ask(server, "/config", Cookie=cookie).body


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = [sys.executable, "-m", "facegen", "app", "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "another program may hold it; take another one with --port" in ended.stderr


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True)]
)
def test_loopback(host, here):
    assert is_loopback(host) is here


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_others_need_a_password(host):
    assert not is_loopback(host)
    with pytest.raises(FacegenError, match="give it a password"):
        serve(host=host)


def test_share_needs_a_password():
    with pytest.raises(FacegenError, match="give it a password"):
        serve(share=True)
