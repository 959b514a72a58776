from __future__ import annotations

import pytest
from refusals import assert_refused

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source, open_source


def rows(*lines: str) -> dict[str, str]:
    """A table of path and age beside a.jpg and b.jpg."""
    return {"t.csv": "\n".join(("path,age", *lines)), "a.jpg": "a", "b.jpg": "b"}


def test_paths_ages_persons_and_genders(read):
    table = "Path;Age;Person;Sex\nx/a.jpg;35;ann;F\nx/b.jpg;20-29;;male\nx/c.jpg;70+;cem;0\n"
    found = read("csv", {"t.csv": "\ufeff" + table, "x/a.jpg": "", "x/b.jpg": "", "x/c.jpg": ""})
    assert list(found.values()) == [
        Record("x/a.jpg", 35, 35, "ann", "female"),
        Record("x/b.jpg", 20, 29, None, "male"),
        Record("x/c.jpg", 70, None, "cem"),
    ]


def test_the_table_of_processed_imdb_wiki_dataset(read):
    """Its mat.py writes it beside the folders of both halves; it knows no women from unknowns."""
    table = "age,gender,path\n84,male,imdb_crop/01/a_1899-5-10_1968.jpg\n30,female,wiki_crop/02/b.jpg\n-3,male,x.jpg\n"
    files = {"meta.csv": table, "imdb_crop/01/a_1899-5-10_1968.jpg": "", "wiki_crop/02/b.jpg": "", "x.jpg": ""}
    found = read("csv", files)
    assert found["imdb_crop/01/a_1899-5-10_1968.jpg"] == Record(
        "imdb_crop/01/a_1899-5-10_1968.jpg", 84, 84, None, "male"
    )
    assert found["wiki_crop/02/b.jpg"] == Record("wiki_crop/02/b.jpg", 30, 30, None, "female")
    assert isinstance(found["x.jpg"], Skipped)  # a wrong date of birth


@pytest.mark.parametrize(
    "header", ["path,age", "File Name,Real Age", "image,age_group", "full_path,age,", "FILENAME,AGE,age_group"]
)
def test_columns_of_usual_names_are_found(read, header):
    row = "a.jpg,35" + ",x" * (header.count(",") - 1)
    assert read("csv", {"t.csv": f"{header}\n{row}\n", "a.jpg": ""})["a.jpg"] == Record("a.jpg", 35, 35)


def test_columns_named_by_the_user(read):
    table = "path,age,wo,wie alt,wer,was\nx,1,a.jpg,35,ann,woman\n"
    options = {"path_column": "wo", "age_column": "wie alt", "person_column": "wer", "gender_column": "was"}
    assert read("csv", {"t.csv": table, "a.jpg": ""}, **options) == {"a.jpg": Record("a.jpg", 35, 35, "ann", "female")}


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("wo,age", {}, "t.csv: name the column with --path-column; it has the columns wo, age"),
        ("path,alter", {}, "t.csv: name the column with --age-column; it has the columns path, alter"),
        ("path,age", {"age_column": "years"}, "t.csv: there is no column 'years'; found: path, age"),
        ("path,age", {"person_column": "who"}, "t.csv: there is no column 'who'"),
        ("path", {}, "t.csv: name the column with --age-column"),
    ],
)
def test_columns_that_are_not_there(read, header, options, message):
    assert_refused(message, read, "csv", {"t.csv": f"{header}\n"}, **options)


def test_what_is_listed_and_not_there_or_there_and_not_listed(read):
    found = read("csv", rows("a.jpg,1", "c.jpg,2", "e.jpg,-5") | {"d.txt": "", "e.jpg": ""})
    assert found.pop("a.jpg") == Record("a.jpg", 1, 1)
    assert {name: item.reason for name, item in found.items()} == {
        "b.jpg": "not listed",
        "c.jpg": "file missing",
        "d.txt": "not a picture file",
        "e.jpg": "not the age of a person",
    }


def test_rows_without_file_with_text_files_and_of_wrong_length(read):
    found = read("csv", rows(",1", "d.txt,2", "a.jpg", "b.jpg,3") | {"d.txt": ""})
    assert found.pop("b.jpg") == Record("b.jpg", 3, 3)
    assert {name: item.reason for name, item in found.items()} == {
        "a.jpg": "not listed",
        "d.txt": "not a picture file",
        "t.csv line 2": "row without a file name",
        "t.csv line 4": "row not understood",
    }


def test_a_file_listed_twice_with_another_age_counts_not_at_all(read):
    found = read("csv", rows("a.jpg,1", "b.jpg,5", "./a.jpg,2", "b.jpg,5.0"))
    assert found == {"a.jpg": Skipped("a.jpg", "listed twice", "age 1, and then age 2"), "b.jpg": Record("b.jpg", 5, 5)}


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd.jpg", "x/../../secret.jpg", "C:\\secret.jpg"])
def test_paths_that_lead_out_of_the_folder(read, tmp_path, path):
    (tmp_path / "secret.jpg").write_text("secret")
    skipped = read("csv", rows(f"{path},1"))[path]
    assert skipped.reason == "path leads out of the folder"
    assert "t.csv line 2" in skipped.detail


def test_paths_are_relative_to_the_table(read):
    found = read("csv", {"lists/t.csv": "path,age\nx/a.jpg,1\n../b.jpg,2\n", "lists/x/a.jpg": "", "b.jpg": ""})
    assert list(found.values()) == [Record("b.jpg", 2, 2), Record("lists/x/a.jpg", 1, 1)]


def test_paths_written_on_windows_and_with_blanks_around(read):
    found = read("csv", rows("x\\c.jpg,1", " a.jpg , 1") | {"x/c.jpg": ""})
    assert (found["x/c.jpg"], found["a.jpg"]) == (Record("x/c.jpg", 1, 1), Record("a.jpg", 1, 1))


def test_names_with_line_breaks_unicode_and_backslashes(read):
    found = read("csv", {"t.csv": 'path,age\n"a\n三.jpg",1\nü\\b.jpg,2\n', "a\n三.jpg": "", "ü\\b.jpg": ""})
    assert list(found.values()) == [Record("a\n三.jpg", 1, 1), Record("ü\\b.jpg", 2, 2)]


def test_which_of_several_tables(read):
    files = rows("a.jpg,1") | {"u.tsv": "path\tage\nb.jpg\t2\n"}
    assert_refused("say which with --table: t.csv, u.tsv", read, "csv", files)
    assert {name: getattr(item, "reason", item) for name, item in read("csv", files, table="u.tsv").items()} == {
        "a.jpg": "not listed",
        "b.jpg": Record("b.jpg", 2, 2),
        "t.csv": "not a picture file",
    }
    assert_refused("there is no table v.csv", read, "csv", files, table="v.csv")


def test_no_table(read):
    assert_refused("no .csv or .tsv in it", read, "csv", ["a.jpg"])


def test_a_table_stands_for_its_folder(read, tmp_path):
    read("csv", rows("a.jpg,1", "b.jpg,2"))
    files, source = open_source(tmp_path / "set" / "t.csv")
    assert source == get_source("csv")(table="t.csv")
    assert [item.age for item in source.read(files)] == [1, 2]


@pytest.mark.parametrize("name", ["fairface_label_train.csv", "ffhq_aging_labels.csv", "gt_avg_valid.csv", "table.txt"])
def test_tables_of_known_data_sets_are_not_claimed(read, tmp_path, name):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text("path,age\n")
    assert not get_source("csv").recognizes(Container(tmp_path / "set"))
