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


def test_links_to_folders_are_visited_once(tmp_path):
    """66 links between 12 folders make 6^11 paths."""
    for number in range(12):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "a.jpg").touch()
        for link in range(6 if number < 11 else 0):
            (tmp_path / f"d{number}" / f"l{link}").symlink_to(f"../d{number + 1}")
    files = Container(tmp_path)
    assert files.names == sorted(f"d{number}/a.jpg" for number in range(12))
    assert set(files.refused.values()) == {container.AGAIN}


def test_class_folders_may_be_links_to_another_disk(tmp_path):
    for name in ("disk/young", "disk/old/deep", "set/real"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.jpg").touch()
    for link, target in (("0-10", "young"), ("60+", "old"), ("70+", "old"), ("80+", "old/deep")):
        (tmp_path / "set" / link).symlink_to(tmp_path / "disk" / target)
    files = Container(tmp_path / "set")
    assert files.names == ["0-10/a.jpg", "60+/deep/a.jpg", "real/a.jpg"]
    assert files.refused == dict.fromkeys(["70+", "80+"], container.AGAIN)


def test_a_folder_itself_comes_before_links_to_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "a-link").symlink_to("real")
    assert Container(tmp_path).names == ["real/a.jpg"]


def test_a_link_to_a_folder_that_it_lies_in_is_refused(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path)
    assert_refused("a link to a folder that contains it", Container, tmp_path / "set")
    assert Container(tmp_path / "set", strict=False).names == []


def test_pictures_that_unpack_to_far_more_than_their_zip(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MAX_UNPACKED", 1024**2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", bytes(400_000))
    assert_refused("far too much for pictures", Container, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", bytes(400_000))
    assert len(Container(tmp_path / "b.zip").names) == 3


def test_a_folder_of_too_many_files(tmp_path, monkeypatch):
    for number in range(4):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(container, "MAX_FILES", 3)
    assert_refused("more than 3 files", Container, tmp_path)
