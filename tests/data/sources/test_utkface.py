from __future__ import annotations

import zipfile

from refusals import assert_refused

from facegen.container import Container
from facegen.data.sources import get_source


def test_order_is_that_of_the_names_in_folder_and_zip(read, tmp_path):
    names = ["b/9_0_0_1.jpg", "a/10_0_0_1.jpg", "a/1_0_0_1.jpg"]
    found = list(read("utkface", names))
    assert found == sorted(names)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    assert [item.name for item in get_source("utkface")().read(Container(tmp_path / "set.zip"))] == found


def test_links_to_folders_are_followed(read, tmp_path):
    read("utkface", ["1_0_0_1.jpg"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "2_0_0_1.jpg").write_bytes(b"x")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "other")
    assert "linked/2_0_0_1.jpg" in read("utkface")


def test_container_refuses_a_file_that_is_not_there(read, tmp_path):
    read("utkface", ["1_0_0_1.jpg"])
    assert_refused("cannot read 2_0_0_1.jpg", Container(tmp_path / "set").read, "2_0_0_1.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"")
    assert_refused("it has no file y", Container(tmp_path / "a.zip").read, "y")
