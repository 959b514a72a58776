from __future__ import annotations

import os
import zipfile

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
        with pytest.raises(FacegenError, match=f"cannot read {name} .it is not a plain file"):
            files.read(name)
        assert_refused("it is not a plain file", Container, tmp_path / name)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_larger_than_any_picture_is_not_read(tmp_path, monkeypatch, is_zip):
    monkeypatch.setattr(container, "MAX_PICTURE_BYTES", 1024**2)
    for name, size in (("fits.jpg", 1024**2), ("bomb.jpg", 1024**2 + 1), ("table.csv", 1024**2 + 1)):
        (tmp_path / name).write_bytes(bytes(size))
    path = tmp_path
    if is_zip:
        path = tmp_path / "faces.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("fits.jpg", "bomb.jpg", "table.csv"):
                archive.write(tmp_path / name, name)
    files = Container(path)
    assert len(files.read("fits.jpg")) == 1024**2
    assert len(files.read("table.csv")) == 1024**2 + 1
    assert_refused("cannot read bomb.jpg (it has more than 1 MB", files.read, "bomb.jpg")


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
    assert_refused("neither a folder nor a readable zip", Container, path)
