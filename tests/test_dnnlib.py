from __future__ import annotations

import copy
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import dnnlib
import dnnlib.download
from dnnlib.util import cached_path, open_url


def test_easydict_is_a_dict_with_attributes():
    options = dnnlib.EasyDict(lr=0.002, name="adam")
    assert options.lr == options["lr"] == 0.002
    options.beta = 0.5
    assert options["beta"] == 0.5
    del options.name
    assert options == {"lr": 0.002, "beta": 0.5}
    assert isinstance(options, dict)
    assert dnnlib.util.EasyDict is dnnlib.EasyDict


def test_easydict_says_what_is_not_there():
    options = dnnlib.EasyDict(lr=1)
    with pytest.raises(AttributeError, match="no item 'rl'; there are lr"):
        _ = options.rl
    with pytest.raises(AttributeError, match="no item 'rl'"):
        del options.rl
    assert not hasattr(options, "rl")


def test_easydict_survives_pickle_and_copy():
    options = dnnlib.EasyDict(a=dnnlib.EasyDict(b=1))
    for again in (pickle.loads(pickle.dumps(options)), copy.deepcopy(options)):
        assert type(again) is dnnlib.EasyDict
        assert again.a.b == 1


class _Handler(BaseHTTPRequestHandler):
    requests: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        body = f"content of {self.path}".encode() * 1000
        self.send_response(200)
        # A short answer under a long promise is what a broken connection looks like.
        self.send_header("Content-Length", str(len(body) * (2 if self.path.startswith("/short") else 1)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    _Handler.requests.clear()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def visible(folder):
    """The files, but for those that only the next or another download looks at."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_download_happens_once(server, tmp_path):
    url = f"{server}/weights/ffhq.pkl?x=1"
    for _ in range(2):
        with open_url(url, cache_dir=tmp_path / "cache") as file:
            assert file.read() == b"content of /weights/ffhq.pkl?x=1" * 1000
    assert _Handler.requests == ["/weights/ffhq.pkl?x=1"]
    assert visible(tmp_path / "cache") == [cached_path(url, tmp_path).name]
    assert cached_path(url, tmp_path).name.endswith("_ffhq.pkl")


def test_addresses_with_one_file_name_do_not_collide(server, tmp_path):
    contents = {open_url(f"{server}/{folder}/x.pkl", tmp_path).read() for folder in "ab"}
    assert len(contents) == 2


def test_environment_names_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "env"))
    open_url(f"{server}/x").close()
    assert len(visible(tmp_path / "env")) == 1


@pytest.mark.parametrize(("path", "words"), [("missing.pkl", "the server answers 404"), ("short.pkl", "is cut")])
def test_failed_download_leaves_nothing(server, tmp_path, monkeypatch, path, words):
    monkeypatch.setattr(dnnlib.download, "PAUSE", 0)
    with pytest.raises(ConnectionError, match=words) as caught:
        open_url(f"{server}/{path}", tmp_path)
    assert "\n" not in str(caught.value)
    assert visible(tmp_path) == []


def test_offline_says_so_in_one_line(tmp_path):
    with pytest.raises(ConnectionError, match=r"refuses the connection; check the network") as caught:
        open_url("http://127.0.0.1:9/x.pkl", tmp_path)  # port 9: nothing listens there
    assert "\n" not in str(caught.value)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "weights.pkl", "", "http:///x", "http://[::1", "http://h:99999/x"]
)
def test_only_the_web(url, tmp_path):
    with pytest.raises(ValueError, match="not an address that can be downloaded"):
        open_url(url, tmp_path)


def test_file_name_in_the_cache_is_harmless(tmp_path):
    assert cached_path("http://h/a/..%2f..%2fx", tmp_path).parent == tmp_path
    assert cached_path("http://h/" + "x" * 500, tmp_path).name.endswith("x" * 80)
    assert cached_path("http://h/", tmp_path).name.endswith("_file")
    assert len(cached_path("http://h/" + "\u4e00" * 300, tmp_path).name.encode()) < 120
    assert cached_path("http://h/x.pkl#a", tmp_path) == cached_path("http://h/x.pkl", tmp_path)
