from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_layouts import (
    IMDB_ENTRIES,
    NO_FACE,
    ImdbEntry,
    imdb_entry,
    make_big_imdb_wiki,
    make_imdb_wiki,
    serial_date,
    write,
    write_imdb_mat,
)
from refusals import assert_refused

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source, matlab
from facegen.data.sources.imdb_wiki import ages_in_midyear

NAN = float("nan")
FINE = imdb_entry("00", "nm0000100_rm46373120", (1955, 1, 6), 2003, gender=1.0, name="Rowan Atkinson")


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Read .mat files in this process: half a second less each. test_matlab.py tests that it is another one."""

    def read_struct(files, name, variable, numbers, texts):
        fields = matlab._read(io.BytesIO(files.read(name)), variable, numbers, texts)
        return {field: np.array(values, float if field in numbers else object) for field, values in fields.items()}

    monkeypatch.setattr("facegen.data.sources.imdb_wiki.read_struct", read_struct)


@pytest.fixture
def read_entries(read, tmp_path):
    """A function: entries of imdb.mat, options -> what becomes of each, by file name; all pictures are there."""

    def read_all(*entries: ImdbEntry, missing: tuple[str, ...] = (), leave_out: tuple[str, ...] = (), **options):
        write_imdb_mat(tmp_path / "set" / "imdb.mat", entries, leave_out)
        there = {entry.full_path for entry in entries} - set(missing)
        return read("imdb-wiki", [path for path in there if ".." not in path], **options)

    return read_all


def test_the_data_set_as_it_ships(tmp_path, face):
    files = Container(make_imdb_wiki(tmp_path, face))
    assert list(get_source("imdb-wiki")().read(files)) == [
        Record("imdb_crop/00/nm0000100_rm46373120_1955-1-6_2003.jpg", 48, 48, "Rowan Atkinson", "male"),
        Record("imdb_crop/01/nm0000001_rm124825600_1899-5-10_1968.jpg", 69, 69, "Fred Astaire", "male"),
        Record("imdb_crop/01/nm0000001_rm3343756032_1899-5-10_1970.jpg", 71, 71, "Fred Astaire", "male"),
        Record("imdb_crop/02/nm0000002_rm221957120_1924-9-16_1974.jpg", 49, 49, "Lauren Bacall", "female"),
        Record("wiki_crop/17/10000217_1981-5-5_2009.jpg", 28, 28, "Sami Jauhojärvi", "male"),
        Record("wiki_crop/48/10000548_1925-4-4_1964.jpg", 39, 39, "Dettmar Cramer"),
    ]


@pytest.mark.parametrize("part", ["imdb", "wiki"])
def test_one_half_alone_or_its_folder(tmp_path, face, part):
    files = Container(make_imdb_wiki(tmp_path, face) / f"{part}_crop")
    assert get_source("imdb-wiki").recognizes(files)
    items = list(get_source("imdb-wiki")().read(files))
    assert len(items) == {"imdb": 4, "wiki": 2}[part]
    assert all(isinstance(item, Record) and item.name[2] == "/" for item in items)


@pytest.mark.parametrize(
    ("born", "year", "age"),
    [
        ((1955, 6, 30), 2003, 48),
        ((1955, 7, 1), 2003, 47),  # not yet on 1 July, as the authors count
        ((1955, 12, 31), 2003, 47),
        ((1956, 2, 29), 2003, 47),
        ((2003, 1, 1), 2003, 0),
        ((2003, 7, 1), 2003, -1),
        ((1, 1, 1), 2003, 2002),
        ((1582, 10, 10), 2003, 420),
    ],
)
def test_age_in_the_middle_of_the_year(born, year, age):
    assert ages_in_midyear(np.array([float(serial_date(*born))]), np.array([float(year)])).tolist() == [age]


def test_serial_dates_are_matlabs():
    # From MATLAB's documentation: datenum(2000, 1, 1) is 730486.
    assert serial_date(2000, 1, 1) == 730486
    assert ages_in_midyear(np.array([730486.75]), np.array([2001.0])).tolist() == [1]


def named(name: str, **changes) -> ImdbEntry:
    """FINE under another name, which keeps its dates, and with changes."""
    return replace(FINE, full_path=f"00/{name}_1955-1-6_2003.jpg", **changes)


def by_label(found: dict) -> dict:
    """What became of entries, by the name given to `named`."""
    return {name[3:].partition("_")[0]: item for name, item in found.items()}


def test_dates_of_birth_that_are_none(read_entries):
    births = [0.0, 1.0, 366.0, -5.0, NAN, float("inf"), 4e6, 1e300]  # 366 is the last day of the year 0
    found = by_label(read_entries(*(named(f"{dob:.10g}", dob=dob) for dob in births)))
    assert {label: (item.reason, item.detail) for label, item in found.items()} == {
        f"{dob:.10g}": ("date of birth not possible", f"serial date {dob:.10g}") for dob in births
    }


ODD = {
    "year": {"photo_taken": 0},
    "born": {"dob": serial_date(1955, 1, 7)},
    "taken": {"photo_taken": 2004},
    "noface": {"face_score": NO_FACE},
    "nan": {"face_score": NAN},
    "second": {"second_face_score": 1.234},
    "low": {"face_score": 0.01},
    "fine": {},
}


def test_what_is_left_out(read_entries):
    found = by_label(read_entries(*(named(label, **changes) for label, changes in ODD.items())))
    assert {label: (item.reason, item.detail) for label, item in found.items() if isinstance(item, Skipped)} == {
        "year": ("year of the photo not possible", "0"),
        "born": ("dates disagree", "born 1955-1-6 by its name, 1955-01-07 by its metadata"),
        "taken": ("dates disagree", "photo of 2003 by its name, of 2004 by its metadata"),
        "noface": ("no face", "face score -inf"),
        "nan": ("no face", "face score nan"),
        "second": ("second face", "its score is 1.23"),
    }


def test_options_keep_what_can_be_kept(read_entries):
    options = {"date_check": "ignore", "min_face_score": float("-inf"), "second_face": "keep"}
    found = by_label(read_entries(*(named(label, **changes) for label, changes in ODD.items()), **options))
    assert {label: item.reason for label, item in found.items() if isinstance(item, Skipped)} == {
        "year": "year of the photo not possible",
        "nan": "face score too low",
    }


def test_a_least_face_score_keeps_what_has_it(read_entries):
    entries = [named(f"{score}", face_score=score) for score in (0.9, 1.0, 1.1)]
    found = by_label(read_entries(*entries, min_face_score=1.0))
    details = {label: getattr(item, "detail", "") for label, item in found.items()}
    assert details == {"0.9": "0.9, at least 1 required", "1.0": "", "1.1": ""}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_age": 48, "max_age": 48}, ""),
        ({"min_age": 49}, "age outside 49-100"),
        ({"max_age": 47}, "age outside 0-47"),
    ],
)
def test_least_and_greatest_age(read_entries, options, reason):
    assert getattr(read_entries(FINE, **options)[FINE.full_path], "reason", "") == reason


def test_ages_outside_0_to_100(read_entries):
    births = [(1850, 1, 1), (2010, 1, 1), (1, 1, 1), (1902, 6, 30)]
    found = by_label(read_entries(*(imdb_entry("00", f"{born[0]}", born, 2003) for born in births)))
    assert {item.reason for item in found.values()} == {"age outside 0-100"}
    assert {label: item.detail for label, item in found.items()} == {
        "1": "2002: born 0001-01-01, photo of 2003",
        "1850": "153: born 1850-01-01, photo of 2003",
        "1902": "101: born 1902-06-30, photo of 2003",
        "2010": "-7: born 2010-01-01, photo of 2003",
    }


def test_names_and_the_metadata(read_entries):
    silent = ["00/nm1_rm1.jpg", "00/nm1_rm1_1955-0-0_2003.jpg", "00/odd.jpg"]  # without a full date
    wrong = ["00/nm1_rm1_1955-13-1_2003.jpg", "00/nm1_rm1_1955-2-30_2003.jpg"]  # with one that cannot be
    found = read_entries(*(replace(FINE, full_path=name) for name in silent + wrong))
    assert [found[name].age for name in silent] == [48, 48, 48]
    assert [found[name].reason for name in wrong] == ["dates disagree", "dates disagree"]


def test_a_person_without_a_name_is_told_by_the_file(read_entries):
    assert read_entries(replace(FINE, name=""))[FINE.full_path].person == "nm0000100"


def test_names_with_line_breaks_and_unicode(read_entries):
    path = "00/nm7_rm\n三船_1955-1-6_2003.jpg"
    record = read_entries(replace(FINE, full_path=path, name=" 三船\n敏郎 "))[path]
    assert (record.name, record.age, record.person) == (path, 48, "三船 敏郎")


def test_gender_as_far_as_known(read_entries):
    entries = [replace(FINE, full_path=f"00/{gender}.jpg", gender=gender) for gender in (0.0, 1.0, NAN, 2.0)]
    assert [item.gender for item in read_entries(*entries).values()] == ["female", "male", None, None]


def test_missing_and_unlisted_pictures(read_entries, tmp_path):
    write(tmp_path / "set" / "09" / "nm9_rm9_1955-1-6_2003.jpg", "x")
    found = read_entries(FINE, missing=(FINE.full_path,))
    assert found[FINE.full_path].reason == "file missing"
    unlisted = found["09/nm9_rm9_1955-1-6_2003.jpg"]
    assert (unlisted.reason, unlisted.detail) == ("not listed", "not in imdb.mat")


def test_paths_that_lead_out(read_entries):
    found = read_entries(FINE, replace(FINE, full_path="../../etc/x.jpg"))
    assert found["../../etc/x.jpg"].reason == "path leads out of the folder"


def test_listed_twice(read_entries):
    other = replace(FINE, gender=0.0)
    assert read_entries(FINE, other)[FINE.full_path].reason == "listed twice"
    assert read_entries(FINE, FINE)[FINE.full_path].age == 48


def test_a_missing_field_is_named(read_entries):
    found = read_entries(FINE, leave_out=("dob",))
    assert found["imdb.mat"] == Skipped("imdb.mat", "metadata not usable", "the field dob of imdb is missing")
    assert found[FINE.full_path].reason == "not listed"


def test_fields_that_are_not_needed_may_be_missing(read_entries):
    assert read_entries(FINE, leave_out=("face_location", "celeb_names", "celeb_id"))[FINE.full_path].age == 48


def test_a_damaged_half_is_named_and_the_other_read(tmp_path, face):
    root = make_imdb_wiki(tmp_path, face)
    mat = root / "imdb_crop" / "imdb.mat"
    mat.write_bytes(mat.read_bytes()[:300])
    items = list(get_source("imdb-wiki")().read(Container(root)))
    (named,) = [item for item in items if item.name == "imdb_crop/imdb.mat"]
    assert named.reason == "metadata not usable"
    assert named.detail.startswith("it is truncated or damaged")
    assert sum(isinstance(item, Record) for item in items) == 2
    assert sum(item.reason == "not listed" for item in items if isinstance(item, Skipped)) == len(IMDB_ENTRIES)


def test_without_metadata_it_is_recognized_and_says_so(tmp_path):
    write(tmp_path / "17" / "10000217_1981-05-05_2009.jpg", "x")
    assert get_source("imdb-wiki").recognizes(Container(tmp_path))
    assert_refused("neither imdb.mat nor wiki.mat", lambda: list(get_source("imdb-wiki")().read(Container(tmp_path))))


def test_a_made_up_tree_holds_what_it_says(tmp_path, face):
    counts = make_big_imdb_wiki(tmp_path, face, 400)
    items = list(get_source("imdb-wiki")().read(Container(tmp_path)))
    found = [item.reason if isinstance(item, Skipped) else "" for item in items]
    # Truncated JPEGs are found later, when they are decoded.
    counts[""] += counts.pop("unreadable picture")
    assert {reason: found.count(reason) for reason in counts} == counts
    assert len({path.read_bytes() for path in Path(tmp_path).rglob("*.jpg")}) == 400 - counts["file missing"]


_MEASURE = """
import pathlib, re, resource, sys
from facegen.container import Container
from facegen.data.sources import get_source
items = list(get_source("imdb-wiki")().read(Container(sys.argv[1])))
status = pathlib.Path("/proc/self/status").read_text()  # getrusage counts the process that started this one too
own = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
print(len(items), own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)  # and the process that reads the .mat
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux tells it")
def test_half_a_million_records_stay_below_a_gigabyte(tmp_path):
    rows = [
        imdb_entry(f"{i % 100:02d}", f"nm{i // 25:07d}_rm{i:010d}", (1950, 1, 6), 2003, name=f"Person {i // 25}")
        for i in range(523_051)
    ]
    write_imdb_mat(tmp_path / "imdb.mat", rows)
    run = subprocess.run([sys.executable, "-c", _MEASURE, tmp_path], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, run.stdout.split())
    assert count == 523_051
    assert kilobytes < 1_000_000
