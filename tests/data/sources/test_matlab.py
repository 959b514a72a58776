from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dataset_layouts import IMDB_ENTRIES, write_imdb_mat
from refusals import assert_refused
from scipy.io import savemat

from facegen.container import Container
from facegen.data.sources import matlab
from facegen.data.sources.matlab import _read, read_struct

NUMBERS, TEXTS = ("dob", "gender"), ("full_path", "name")


@pytest.fixture
def mat(tmp_path) -> Path:
    """An imdb.mat with the entries of IMDB_ENTRIES."""
    write_imdb_mat(tmp_path / "imdb.mat", IMDB_ENTRIES)
    return tmp_path / "imdb.mat"


def read_here(data: bytes) -> dict[str, list]:
    """What the process that reads would answer."""
    return _read(io.BytesIO(data), "imdb", NUMBERS, TEXTS)


def test_fields_in_a_folder_and_in_a_zip(mat, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(mat, "imdb.mat")
    for files in (Container(tmp_path), Container(tmp_path / "set.zip")):
        fields = read_struct(files, "imdb.mat", "imdb", NUMBERS, TEXTS)
        assert list(fields) == [*NUMBERS, *TEXTS]
        for field in fields:
            assert fields[field].dtype == (np.float64 if field in NUMBERS else object)
            assert fields[field].tolist() == [getattr(entry, field) for entry in IMDB_ENTRIES]


@pytest.mark.parametrize("field", [*NUMBERS, *TEXTS])
def test_a_missing_field_is_named(tmp_path, field):
    write_imdb_mat(tmp_path / "imdb.mat", IMDB_ENTRIES, leave_out=(field,))
    assert_refused(f"the field {field} of imdb is missing", read_here, (tmp_path / "imdb.mat").read_bytes())


COMPLETE = {"gender": 1.0, "full_path": np.array(["x"], dtype=object), "name": np.array(["x"], dtype=object)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"wiki": {"dob": [1.0]}}, "it holds no struct named imdb"),
        ({"imdb": [1.0, 2.0]}, "it holds no struct named imdb"),
        ({"imdb": "text"}, "it holds no struct named imdb"),
        ({"imdb": np.zeros((1, 2), dtype=[("dob", float)])}, "it holds no struct named imdb"),
        ({"imdb": COMPLETE | {"dob": [1.0, 2.0]}}, "differ in length: dob 2, gender 1, full_path 1, name 1"),
        ({"imdb": COMPLETE | {"dob": "text"}}, "the field dob of imdb is not understood"),
        ({"imdb": COMPLETE | {"dob": [[1.0, 2.0], [1.0, 2.0]]}}, "the field dob of imdb is not a row"),
    ],
)
def test_a_file_that_holds_something_else(tmp_path, content, message):
    savemat(tmp_path / "imdb.mat", content)
    assert_refused(message, read_here, (tmp_path / "imdb.mat").read_bytes())


def test_wherever_it_is_cut_off_it_says_so(mat):
    data = mat.read_bytes()
    for length in range(0, len(data) - 1, max(1, len(data) // 200)):
        assert_refused("it is truncated or damaged (", read_here, data[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>404</html>" * 100, "it is truncated or damaged"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), "it is of MATLAB version 7.3; save it with"),
    ],
)
def test_other_files(data, message):
    assert_refused(message, read_here, data)


def test_a_reader_that_crashes_does_not_crash_us(mat, tmp_path, monkeypatch):
    # As scipy 1.17 does on some damaged files without compression, which have no checksum.
    monkeypatch.setattr(matlab, "_child", os.abort)
    assert_refused("reading it crashed", read_struct, Container(tmp_path), "imdb.mat", "imdb", NUMBERS, TEXTS)


def test_what_unpacks_to_far_more_than_metadata_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "MAX_UNPACKED", 10_000)
    savemat(tmp_path / "a.mat", {"imdb": COMPLETE | {"dob": [1.0]}, "other": np.zeros(500)}, do_compression=True)
    assert read_here((tmp_path / "a.mat").read_bytes())["dob"] == [1.0]
    for order in (("imdb", "other"), ("other", "imdb")):
        content = {"imdb": COMPLETE | {"dob": [1.0]}, "other": np.zeros(50_000)}
        savemat(tmp_path / "b.mat", {name: content[name] for name in order}, do_compression=True)
        assert_refused("unpacks to far more", read_here, (tmp_path / "b.mat").read_bytes())
