from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from refusals import assert_refused

from facegen import container
from facegen.container import Container
from facegen.errors import FacegenError


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    files = Container(tmp_path)
    for name in ("pipe.jpg", "device.jpg"):
        with pytest.raises(FacegenError, match="not a plain file"):
            files.read(name)
        assert_refused("not a plain file", Container, tmp_path / name)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_larger_than_any_picture_is_not_read(tmp_path, monkeypatch, is_zip):
    monkeypatch.setattr(container, "MAX_FILE_BYTES", 1024**2)
    for name, size in (("fits.jpg", 1024**2), ("bomb.jpg", 1024**2 + 1)):
        (tmp_path / name).write_bytes(bytes(size))
    path = tmp_path
    if is_zip:
        path = tmp_path / "faces.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("fits.jpg", "bomb.jpg"):
                archive.write(tmp_path / name, name)
    files = Container(path)
    assert len(files.read("fits.jpg")) == 1024**2
    assert_refused("more than 1 MB", files.read, "bomb.jpg")


def test_a_file_that_lzma_cannot_read(tmp_path):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jpg", bytes(range(256)) * 8)
        start = len(archive.filelist[0].FileHeader())
    data = bytearray(path.read_bytes())
    data[start + 12 : start + 40] = b"\xff" * 28
    path.write_bytes(data)
    assert_refused("cannot read a.jpg", Container(path).read, "a.jpg")


@pytest.mark.parametrize(("offset", "value"), [(6, 240), (46, 0xFF)])  # the version that is needed; a name in UTF-8
def test_a_zip_with_a_broken_list_of_files(tmp_path, offset, value):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\u00e9.jpg", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + offset] = value
    path.write_bytes(data)
    assert_refused("not a readable zip", Container, path)


def windows_zip(path: Path, files: dict[str, bytes]) -> Path:
    """A zip as .NET wrote it before 4.6.1: backslashes between folders, and entries for folders."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # else it would be translated on Windows
            archive.writestr(info, content)
    return path


def test_backslashes_in_a_zip_are_slashes(tmp_path):
    files = Container(
        windows_zip(tmp_path / "w.zip", {"a\\": b"", "a\\b\\1.txt": b"1", "a/2.txt": b"2", "3.txt": b"3"})
    )
    assert files.names == ["3.txt", "a/2.txt", "a/b/1.txt"]
    assert [files.read(name) for name in files.names] == [b"3", b"2", b"1"]
    assert files.stamp("a/b/1.txt")[0] == 1


@pytest.mark.parametrize("names", [["..\\x"], ["a\\..\\..\\x"], ["\\x"], ["a\\x", "a/x"]])
def test_backslashes_hide_nothing(tmp_path, names):
    path = windows_zip(tmp_path / "w.zip", dict.fromkeys(names, b""))
    with pytest.raises(FacegenError, match=r"leads out|two files"):
        Container(path)
    assert Container(path, strict=False).names == []


def test_a_stamp_changes_with_the_file(tmp_path):
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "a.txt"
    file.write_text("one")
    files = Container(tmp_path / "set")
    before = files.stamp("a.txt")
    assert files.stamp("a.txt") == before
    file.write_text("three")
    assert files.stamp("a.txt") != before
    file.unlink()
    assert files.stamp("a.txt") == [0, 0]
    zips = [Container(windows_zip(tmp_path / f"{text}.zip", {"a": text.encode()})) for text in ("one", "two")]
    assert zips[0].stamp("a") != zips[1].stamp("a")
