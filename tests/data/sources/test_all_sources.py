from __future__ import annotations

import dataclasses
import time
import zipfile
from pathlib import Path

import pytest
from dataset_layouts import LAYOUTS, jpeg, write
from refusals import assert_refused

from facegen import images as pictures
from facegen.container import Container, is_image_name
from facegen.data.sources import Record, Skipped, all_sources, detect_source, get_source


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, face) -> dict[str, Path]:
    """Every data set, laid out as it ships, by the name of its source."""
    return {name: make(tmp_path_factory.mktemp(name), face) for name, make in LAYOUTS.items()}


def test_every_source_has_a_layout():
    assert sorted(LAYOUTS) == list(all_sources())


@pytest.mark.parametrize("name", LAYOUTS)
def test_exactly_one_source_recognizes_a_data_set_as_it_ships(shipped, name):
    files = Container(shipped[name])
    assert [source.name for source in all_sources().values() if source.recognizes(files)] == [name]
    assert detect_source(files) is get_source(name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_also_one_folder_further_down_and_in_a_zip(shipped, name, tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "download").symlink_to(shipped[name])
    assert detect_source(Container(tmp_path / "below")).name == name
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in shipped[name].rglob("*.*"):
            if file.is_file():
                archive.write(file, file.relative_to(shipped[name]))
    assert detect_source(Container(tmp_path / "set.zip")).name == name
    source = get_source(name)()
    assert list(source.read(Container(tmp_path / "set.zip"))) == list(source.read(Container(shipped[name])))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_picture_comes_out_once_sorted_and_is_one(shipped, name):
    files = Container(shipped[name])
    items = list(get_source(name)().read(files))
    names = [item.name for item in items]
    assert names == sorted(set(names))
    # Tables, .mat files and landmarks of the data set itself are not worth a word, pictures always are.
    assert names == [name for name in files.names if is_image_name(name)]
    records = [item for item in items if isinstance(item, Record)]
    assert len(records) >= 3
    for record in records:
        assert pictures.decode(files.read(record.name), record.name).size == (64, 64)
    reasons = {item.reason for item in items if isinstance(item, Skipped)}
    assert reasons <= {"another crop of the same picture", "age not certain"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_stray_files_and_pictures_are_named(shipped, name, tmp_path, face):
    for file in shipped[name].rglob("*.*"):
        if file.is_file():
            write(tmp_path / file.relative_to(shipped[name]), file.read_bytes())
    write(tmp_path / "README.txt", "Thank you for downloading")
    write(tmp_path / "holiday.jpg", jpeg(face))
    files = Container(tmp_path)
    assert detect_source(files).name == name
    found = {item.name: item for item in get_source(name)().read(files)}
    assert found["README.txt"] == Skipped("README.txt", "not a picture file")
    assert found["holiday.jpg"].reason in {"not listed", "name not understood", "folder is no age"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_no_data_set(tmp_path, name):
    assert not get_source(name).recognizes(Container(tmp_path))


def test_nothing_recognized_lists_the_known(tmp_path):
    write(tmp_path / "holiday.jpg", "x")
    message = assert_refused("say which with --source NAME", detect_source, Container(tmp_path))
    assert all(name in message for name in all_sources())


def test_two_recognized_are_both_named(tmp_path):
    write(tmp_path / "26" / "26_1_2_20170116174525125.jpg", "x")
    assert_refused("could be folders, utkface", detect_source, Container(tmp_path))


def test_unknown_data_set_names_the_known():
    assert "utkface" in assert_refused("'celeba' is not a known data set", get_source, "celeba")


@pytest.mark.parametrize("source", all_sources().values(), ids=lambda source: source.name)
def test_a_source_is_a_frozen_dataclass_that_says_what_it_is(source):
    assert source.title
    assert source.crop in {"as-is", "center", "align"}
    assert source.__dataclass_params__.frozen
    for field in dataclasses.fields(source):
        assert field.metadata["help"].endswith(".")
        if field.metadata["choices"]:
            assert field.default in field.metadata["choices"]


def test_recognizing_half_a_million_names_takes_a_moment(tmp_path):
    files = Container(tmp_path)
    files.names = [f"imdb_crop/{i % 100:02d}/nm{i:07d}_rm{i}_1955-1-6_2003.jpg" for i in range(500_000)]
    files.names.append("imdb_crop/imdb.mat")
    before = time.process_time()
    assert detect_source(files).name == "imdb-wiki"
    # Measured: 1 s. A test machine may be slow and busy; decoding or opening that many files takes many minutes.
    assert time.process_time() - before < 15
