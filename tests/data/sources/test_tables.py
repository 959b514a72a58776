from __future__ import annotations

import pytest
from dataset_layouts import write
from refusals import assert_refused

from facegen.container import Container
from facegen.data.sources import Record, Skipped
from facegen.data.sources.tables import add, path_in, read_table


@pytest.fixture
def table(tmp_path):
    """A function: content of a file -> the table."""

    def read(content: str | bytes):
        write(tmp_path / "t.csv", content)
        return read_table(Container(tmp_path), "t.csv")

    return read


@pytest.mark.parametrize(
    "content",
    [
        "path,age\na.jpg,35\nb.jpg,36\n",
        "path,age\r\na.jpg,35\r\nb.jpg,36\r\n",
        "path,age\ra.jpg,35\rb.jpg,36",
        "\ufeffpath;age\na.jpg;35\nb.jpg;36\n",
        "path\tage\na.jpg\t35\nb.jpg\t36",
        '"path","age"\n"a.jpg","35"\n"b.jpg",36\n',
        '\ufeff"path" ; age\na.jpg;35\n\nb.jpg;36\n;\n',
        "\n\n path , age \na.jpg,35\n\n,\nb.jpg,36\n\n",
        "sep=;\npath;age\na.jpg;35\nb.jpg;36\n",
        "\ufeffSEP=,\r\npath,age\r\na.jpg,35\r\nb.jpg,36\r\n",
        "sep=\t\rpath\tage\ra.jpg\t35\rb.jpg\t36",
        '"sep=|"\npath|age\na.jpg|35\nb.jpg|36\n',
        "sep=;;\npath;age\na.jpg;35\nb.jpg;36\n",
    ],
)
def test_all_that_spreadsheets_write(table, content):
    assert [row for _, row in table(content)] == [{"path": "a.jpg", "age": "35"}, {"path": "b.jpg", "age": "36"}]


def test_lines_are_counted_with_the_line_of_the_delimiter(table):
    assert [line for line, _ in table("sep=;\npath;age\na;1\nb;2\n")] == [3, 4]


def test_a_column_may_be_called_sep(table):
    assert table("sep=x,age\na,1\n").header == ("sep=x", "age")


def test_names_with_commas_line_breaks_and_unicode(table):
    found = table('path,age\n"a,\nß,三.jpg",35\n"say ""hi"";.jpg",36\n')
    assert list(found) == [(3, {"path": "a,\nß,三.jpg", "age": "35"}), (4, {"path": 'say "hi";.jpg', "age": "36"})]


def test_a_header_alone_is_a_table_without_rows(table):
    assert list(table("path,age\n")) == []


def test_rows_of_other_length_are_named(table):
    found = table("path,age\na.jpg\nb.jpg,36,x\nc.jpg,1\n")
    assert [row["path"] for _, row in found] == ["c.jpg"]
    assert found.ragged == [
        Skipped("t.csv line 2", "row not understood", "1 columns where the header has 2"),
        Skipped("t.csv line 3", "row not understood", "3 columns where the header has 2"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv: the table is empty"),
        ("\ufeff\n  \n", "t.csv: the table is empty"),
        (",,\n", "t.csv: the table is empty"),
        ("path,age\na.jpg,1\nMüller.jpg,35\n".encode("latin-1"), "t.csv, line 3: byte 0xfc is not UTF-8; save the"),
        ("path,age\n".encode("utf-16"), "t.csv, line 1: byte 0xff is not UTF-8"),
        ("path,age,age\n", "t.csv: the column 'age' is there twice"),
        ("path,age, path\n", "t.csv: the column 'path' is there twice"),
        ("path,age\n" + "x" * 200_000 + ",1\n", "t.csv, line 2: not a table"),
    ],
)
def test_what_is_no_table_says_so_with_file_and_line(table, content, message):
    assert_refused(message, table, content)


def test_a_column_that_is_not_there_lists_those_that_are(table):
    assert_refused("t.csv: there is no column 'sex'; found: path, age", table("path,age\n").require, "age", "sex")


@pytest.mark.parametrize(
    ("source", "name", "header", "options", "column"),
    [
        ("appa-real", "gt_avg_test.csv", "file_name,real_age", {"age": "apparent"}, "apparent_age_avg"),
        ("fairface", "fairface_label_train.csv", "file,gender", {}, "age"),
        ("ffhq-aging", "ffhq_aging_labels.csv", "image_number,age_group", {}, "age_group_confidence"),
    ],
)
def test_a_column_that_a_data_set_lacks_is_named(read, source, name, header, options, column):
    assert_refused(f"{name}: there is no column '{column}'", read, source, {name: f"{header}\n"}, **options)


@pytest.mark.parametrize(
    ("folder", "path", "name"),
    [
        ("", "a.jpg", "a.jpg"),
        ("x/", "./y//a.jpg", "x/y/a.jpg"),
        ("tables/", "../train/1.jpg", "train/1.jpg"),
        ("x/", "y/../a.jpg", "x/a.jpg"),
        ("", "../a.jpg", None),
        ("x/", "../../a.jpg", None),
        ("", "/etc/passwd", None),
        ("x/", "/etc/passwd", None),
        ("", "C:\\a.jpg", None),
        ("", "..\\a.jpg", None),
        ("", "a/../..", None),
    ],
)
def test_paths_stay_in_the_data_set(folder, path, name):
    assert path_in(folder, path) == name


def test_the_same_said_twice_counts_once():
    found = {}
    for _ in range(2):
        add(found, Record("a", 3, 3))
    assert found == {"a": Record("a", 3, 3)}


def test_what_contradicts_itself_does_not_count():
    found = {}
    for age in (3, 4, 3, 5):
        add(found, Record("a", age, age))
    assert found == {"a": Skipped("a", "listed twice", "age 3, and then age 4")}
    add(found, Record("b", 3, 3, gender="male"))
    add(found, Skipped("b", "age not understood", "'x'"))
    assert found["b"] == Skipped("b", "listed twice", "age 3 male, and then age not understood ('x')")
