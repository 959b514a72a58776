"""What may come from a stranger is opened in one way: never more than memory holds, never what does not end."""

from __future__ import annotations

import json
import os
import socket
import zipfile

import pytest
from refusals import assert_refused

from facegen import reading
from facegen.errors import FacegenError
from facegen.reading import open_zip, parse_json, read_bytes, read_entry, read_json, read_text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, open_zip, reading.check_plain])
def test_what_never_ends_is_not_opened(tmp_path, monkeypatch, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(tmp_path)  # the name of a socket may have 100 letters
        unix.bind("socket")
    for name in ("pipe", "device", "socket"):
        assert_refused("not a plain file", read, tmp_path / name)
    assert_refused("a folder", read, tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    assert_refused("more than 4,096 MB", read_bytes, tmp_path / "sparse")
    (tmp_path / "note").write_bytes(b"abc")
    assert read_bytes(tmp_path / "note", 3) == b"abc"
    assert_refused("sparse", read_text, tmp_path / "sparse")
    with pytest.raises(FacegenError):
        read_bytes(tmp_path / "note", 2)


@pytest.mark.parametrize("text", ["[" * 65 + "]" * 65, '{"a":' * 70 + "1" + "}" * 70, "[" * 10**5 + "]" * 10**5])
def test_deep_json_is_refused(text):
    assert_refused("deeper than 64", parse_json, text, "x.json")


def test_json_that_grows_in_memory_is_refused():
    for text in ("[" + "[]," * 10**7, "{" * 10**7, '{"a":{},' * 10**7):
        assert_refused("memory", parse_json, text, "x.json")


@pytest.mark.parametrize("text", ["9" * 400, "[1" + "0" * 5000 + "]", "-" + "1" * 100])
def test_endless_numbers_are_refused(text):
    assert_refused("more than 99 digits", parse_json, text, "x.json")


@pytest.mark.parametrize(
    "content", [{"a": [1, 2.5, None, "é\ud800"]}, [[[[]]]], 3, "x", json.loads("[" * 64 + "]" * 64)]
)
def test_plain_json_is_read(content):
    assert parse_json(json.dumps(content), "x.json") == content
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(content).encode(), "x.json") == content


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b"{} {}", b"nul", b"\xc3"])
def test_what_is_no_json_is_refused(data):
    assert_refused("x.json: not JSON", parse_json, data, "x.json")


def test_a_zip_gives_no_more_than_the_limit(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", bytes(10**7))
        archive.writestr("fits.json", "{}")
    # the directory claims that the bomb is small
    raw = (tmp_path / "a.zip").read_bytes().replace((10**7).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    (tmp_path / "lies.zip").write_bytes(raw)
    with open_zip(tmp_path / "a.zip") as archive:
        assert read_entry(archive, "fits.json", "a.zip") == b"{}"
        assert_refused("more than 1 MB", read_entry, archive, "bomb.json", "a.zip", 2**20)
        assert_refused("it has no file none", read_entry, archive, "none", "a.zip")
    with open_zip(tmp_path / "lies.zip") as archive:
        assert_refused("cannot read bomb.json", read_entry, archive, "bomb.json", "a.zip", 2**20)


def test_a_zip_of_too_many_files_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(4):
            archive.writestr(str(number), "")
    open_zip(tmp_path / "a.zip").close()
    monkeypatch.setattr(reading, "MAX_ZIP_ENTRIES", 3)
    assert_refused("more than 3 files", open_zip, tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(b"PK no zip")
    assert_refused("not a readable zip", open_zip, tmp_path / "b.zip")
