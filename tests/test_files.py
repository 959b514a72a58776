import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from facegen.errors import one_line
from facegen.files import at_home, atomic_path, open_in_place, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_a_new_file(tmp_path):
    with atomic_path(tmp_path / "stats.json") as temporary:
        temporary.write_text("{}")
        assert not (tmp_path / "stats.json").exists()  # not before it is whole
    assert (tmp_path / "stats.json").read_text() == "{}"
    assert names(tmp_path) == ["stats.json"]


def test_replaces_an_old_file(tmp_path):
    path = tmp_path / "stats.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"  # a reader sees the old one until then
    assert path.read_text() == "new"


def test_a_reader_keeps_the_file_it_has_opened(tmp_path):
    path = tmp_path / "stats.json"
    path.write_text("old")
    with path.open() as reader:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"


def test_makes_missing_folders(tmp_path):
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_takes_text_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_path("here.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "here.txt").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_nothing_half_written_after_an_exception(tmp_path, error, old):
    path = tmp_path / "stats.json"
    if old is not None:
        path.write_text(old)

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write()
    assert names(tmp_path) == ([] if old is None else ["stats.json"])
    assert old is None or path.read_text() == old


def test_exception_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="early"), atomic_path(tmp_path / "stats.json"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_block_that_writes_nothing(tmp_path):
    path = tmp_path / "stats.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "old"
    assert names(tmp_path) == ["stats.json"]


def test_failing_move_leaves_nothing(tmp_path):
    target = tmp_path / "a folder"
    target.mkdir()
    with pytest.raises(OSError, match="a folder"), atomic_path(target) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["a folder"]
    assert list(target.iterdir()) == []


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"), atomic_path(tmp_path / "file" / "stats.json"):
        pass
    assert names(tmp_path) == ["file"]


def test_temporary_file_is_beside_and_hidden(tmp_path):
    # On another file system os.replace would not be atomic; a glob such as network-snapshot-* must not find it.
    path = tmp_path / "network-snapshot-000010.safetensors"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("x")
        assert list(tmp_path.glob("*.safetensors")) == []
        assert list(tmp_path.glob("network*")) == []


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    old = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.touch(mode=0o600)  # as some writers make theirs
        with atomic_path(tmp_path / "b") as temporary:
            temporary.touch(mode=0o666)
    finally:
        os.umask(old)
    for name in ("a", "b"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "stats.json"
    path.write_text("old")
    code = (
        "import os, sys; from facegen.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half of'); os.kill(os.getpid(), 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, os.fspath(path)])
    assert result.returncode == -9
    assert path.read_text() == "old"


def fails_with(number: int):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_file_systems_without_modes_and_flushing(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "chmod", fails_with(number))
    monkeypatch.setattr(os, "fsync", fails_with(number))
    write_json(tmp_path / "x.json", [1])
    assert (tmp_path / "x.json").read_text() == "[\n  1\n]\n"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_told(tmp_path, monkeypatch, number):
    (tmp_path / "x.json").write_text("old")
    monkeypatch.setattr(os, "fsync", fails_with(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        write_json(tmp_path / "x.json", [1])
    assert (tmp_path / "x.json").read_text() == "old"
    assert names(tmp_path) == ["x.json"]


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
    monkeypatch.chdir(tmp_path)
    assert at_home("~/a/~b") == tmp_path / "a" / "~b"
    assert at_home(Path("~")) == tmp_path
    for as_it_is in ("a/~", "/~/a", "~nobody-of-this-name/a", "~1.png"):
        assert at_home(as_it_is) == Path(as_it_is)
    (tmp_path / "~").mkdir()
    assert at_home("~") == Path("~")  # a folder that is really called so


@pytest.mark.skipif(os.name != "posix", reason="links are for administrators")
def test_links_that_a_stranger_left_are_not_followed(tmp_path, monkeypatch):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_text("mine")
    folder.mkdir()
    for name in ("stats.json", f".stats.json.{os.getpid()}.tmp"):
        (folder / name).symlink_to(precious)
    write_json(folder / "stats.json", [1])
    assert not (folder / "stats.json").is_symlink()
    assert precious.read_text() == "mine"

    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    (folder / ".x.json.guessed.tmp").symlink_to(precious)
    with pytest.raises(FileExistsError, match=r"x\.json"):
        write_json(folder / "x.json", [1])
    assert precious.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="links are for administrators")
@pytest.mark.parametrize("append", [True, False])
def test_nothing_is_written_in_place_through_a_link(tmp_path, append):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "to-nowhere").symlink_to(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "to-nowhere", "pipe"):
        with pytest.raises(OSError, match=name):
            open_in_place(tmp_path / name, append=append)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def write_with_zipfile(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"x" * 100_000)


WRITERS = {
    "text": lambda path: path.write_text("x" * 100_000),
    "png": lambda path: Image.effect_noise((300, 300), 99).save(path, "PNG"),
    "jpeg": lambda path: Image.effect_noise((300, 300), 99).save(path, "JPEG", quality=95),
    "gif": lambda path: Image.effect_noise((300, 300), 99).save(path, "GIF"),
    "zip": write_with_zipfile,
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_told_with_the_file_s_name(tmp_path, write):
    def fill() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.symlink_to("/dev/full")
            write(temporary)

    with pytest.raises(OSError, match=r"the disk full|No space left") as caught:
        fill()
    assert one_line(caught.value).startswith(f"{tmp_path / 'a'}: cannot be ")
    assert names(tmp_path) == []


def test_errors_of_other_files_keep_their_names(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_text()
