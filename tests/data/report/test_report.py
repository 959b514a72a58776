from __future__ import annotations

import base64
import io
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.data.contents import Face, read_contents
from facegen.data.report.page import age_histogram, write_report
from facegen.data.report.portraits import portray
from facegen.html import cut, share, templates
from facegen.images import decode

NASTY = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "two\nlines.jpg",
    "right-to-left-\u202egpj.exe",
    "half a character \udc80.jpg",
    "x" * 300 + ".jpg",
    "",
]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page taken apart; raises when tags do not close in the order in which they opened."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words, self.sizes = [], [], [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self):
        for attributes in self.all("img"):
            kind, data = attributes["src"].split(",", 1)
            assert kind in {"data:image/jpeg;base64", "data:image/png;base64"}
            yield attributes, Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tinted):
    """60 faces of every age from 0 to 29 in three of four groups, the fourth empty."""
    path = tmp_path_factory.mktemp("report") / "faces.zip"
    groups = AgeGroups.parse("0-9,10-19,20-29,30-39")
    with ArchiveWriter(path, groups=groups) as writer:
        for index in range(60):
            writer.add(f"{index}.jpg", tinted(index), groups.index_of(index // 2), index // 2)
    return path


def summary_of(*archives, **changes):
    contents = [read_contents(path) for path in archives]
    written = sum(len(c.faces) for c in contents)
    return {
        "format": 1,
        "facegen": "0.1.0",
        "source": "/data/UTKFace",
        "source_name": "utkface",
        "title": "UTKFace",
        "options": {"crop": "center", "min_size": 24, "max_turn": None},
        "read": written,
        "written": written,
        "dropped": {},
        "notes": {},
        "groups": contents[0].classes,
        "resolution": 16,
        "template": None,
        "archives": [c.summary() for c in contents],
    } | changes


def report(tmp_path, archives, examples=None, **changes):
    path = tmp_path / "report.html"
    contents = [read_contents(archive) for archive in archives]
    write_report(path, summary_of(*archives, **changes), contents, examples, progress=False)
    return Page(path)


@pytest.fixture(scope="module")
def page(tmp_path_factory, archive):
    """The report of the archive, with nothing left out."""
    return report(tmp_path_factory.mktemp("page"), [archive])


def test_page_says_what_the_archive_holds(tmp_path, archive):
    page = report(tmp_path, [archive], read=62, dropped={"no face": [{"file": "a.jpg"}, {"file": "b.jpg"}]})
    for words in ("faces.zip", "UTKFace", "16×16", "crop: center", "96.8 % of 62 read", "0 to 29 years"):
        assert words in page.text
    for words in ("half of them up to 14", "no face 2, 3.2 %", "30-39 none"):
        assert words in page.text
    assert [tag for tag, _ in page.tags if tag == "h1"] == ["h1"]


def test_page_stands_alone(page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object"}
    assert "http" not in page.html.replace("http-equiv", "")
    assert "url(" not in page.html
    policy = next(a["content"] for a in page.all("meta") if "content" in a and "default-src" in a["content"])
    assert policy.startswith("default-src 'none'")


def test_every_picture_has_words_and_charts_have_names(page):
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes["aria-label"] for attributes in page.all("svg"))
    assert all("scope" in attributes for attributes in page.all("th"))


@pytest.mark.parametrize("count", [1, 2])
def test_headings_go_down_one_level_at_a_time(tmp_path, archive, count):
    page = report(tmp_path, [archive] * count, read=61, dropped={"no face": [{"file": "a.jpg"}]})
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(level > 1 for level in levels[1:])
    assert max(after - before for before, after in itertools.pairwise(levels)) == 1


def test_means_and_samples_are_those_of_the_groups(page, archive):
    found = {attributes["alt"]: image for attributes, image in page.images()}
    faces = FaceArchive(archive)
    for label, name in enumerate(["0-9", "10-19", "20-29"]):
        expected = np.mean([faces.image(i) for i in np.flatnonzero(faces.labels == label)], axis=0)
        mean = np.asarray(found[f"Mean of 20 faces of {name}"]).transpose(2, 0, 1)
        assert np.abs(mean - expected).max() <= 0.5  # rounded to whole levels
    samples = [a["alt"] for a, _ in page.images() if a["alt"].startswith("Face, ")]
    assert len(samples) == 3 * 8
    for alt in samples:
        age, low, high = map(int, re.findall(r"\d+", alt))
        assert low <= age <= high


def test_same_archive_gives_the_same_page(tmp_path, archive, page):
    first, second = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", p.html) for p in (page, report(tmp_path, [archive])))
    assert first == second


def test_names_are_shown_never_run(tmp_path, archive, face):
    noise = Image.fromarray(np.zeros((30, 90, 3), np.uint8))
    dropped = {f"reason {NASTY[0]}": [{"file": name, "detail": NASTY[1]} for name in NASTY]}
    examples = {f"reason {NASTY[0]}": [(name, noise) for name in NASTY[:4]] + [(NASTY[5], None)]}
    changes = {"source": NASTY[1], "title": NASTY[0], "notes": {NASTY[0]: NASTY}, "options": {NASTY[1]: NASTY[2]}}
    page = report(tmp_path, [archive], examples, read=67, dropped=dropped, **changes)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert all(a["src"].startswith("data:") for a in page.all("img"))
    assert r"two\nlines.jpg" in page.text
    assert r"right-to-left-\u202egpj.exe" in page.text
    assert r"half a character \udc80.jpg" in page.text
    assert "x" * 100 not in page.text
    assert "…" in page.text


def test_long_lists_end_with_how_many_more(tmp_path, archive):
    dropped = {"too blurred": [{"file": f"{i}.jpg", "detail": f"sharpness {i}"} for i in range(1000)]}
    page = report(tmp_path, [archive], read=1060, dropped=dropped)
    assert "and 992 more" in page.text
    assert "7.jpg sharpness 7" in page.text
    assert "8.jpg" not in page.text.replace("18.jpg", "")


def test_details_are_those_of_their_entry_and_do_not_repeat_the_file(tmp_path, archive):
    found = [{"file": "t.csv", "detail": "t.csv: row 3"}, {"file": "t.csv", "detail": "row 9"}, {"file": "no.jpg"}]
    page = report(tmp_path, [archive], read=63, dropped={"age not understood": found})
    assert "t.csv row 3 t.csv row 9 no.jpg" in page.text


def test_thumbnails_of_any_shape_and_mode(tmp_path, archive, face):
    images = [face.convert(mode) for mode in ("L", "RGBA", "CMYK", "P")] + [face.resize((1, 1)), face.resize((900, 30))]
    names = [f"{i}.jpg" for i in range(len(images))]
    dropped = {"no face": [{"file": name, "detail": ""} for name in names]}
    page = report(tmp_path, [archive], {"no face": list(zip(names, images, strict=True))}, read=66, dropped=dropped)
    shown = [image for attributes, image in page.images() if attributes["alt"] == "no face"]
    assert len(shown) == len(images)
    assert max(max(image.size) for image in shown) <= 160


def test_a_section_for_each_split(tmp_path, tinted):
    paths = [tmp_path / f"faces-{split}.zip" for split in ("train", "val")]
    for path in paths:
        with ArchiveWriter(path) as writer:
            writer.add("a.jpg", tinted(1), 0)
            writer.add("b.jpg", tinted(11), 1)
    page = report(tmp_path, paths)
    assert all(path.name in page.text for path in paths)
    assert page.text.count("Mean face of each group") == 2


def test_genders_are_shown_where_known(make_described, tmp_path):
    page = report(tmp_path, [make_described(*({"age": 5, "gender": g} for g in ["female"] * 3 + ["male"]))])
    assert "female 3" in page.text
    assert "75 %" in page.text


def test_no_labels_no_ages_and_broken_pictures(make_zip, tmp_path, tinted, face):
    path = make_zip({"a.png": tinted(1), "b.png": b"", "c.png": face, "d.png": face.crop((0, 0, 100, 60))})
    page = report(tmp_path, [path])
    assert "no labels" in page.text
    assert "Ages" not in page.text
    assert "Mean of 3 faces of all" in page.html


def test_many_classes_are_cut_short(make_zip, tmp_path, tinted):
    names = [f"{i:03d}.png" for i in range(50)]
    path = make_zip({n: tinted(i, 4) for i, n in enumerate(names)}, [[n, i * 100] for i, n in enumerate(names)])
    page = report(tmp_path, [path])
    assert "The first 40 of 50 classes are shown." in page.text
    assert len(page.html) < 400_000


def test_means_and_samples_of_an_archive(archive):
    contents = read_contents(archive)

    def open_picture(name):
        return decode(contents.files.read(name), name)

    groups = portray(contents.by_class(), open_picture, samples=4, progress=False)
    found = [(g.label, g.count, g.averaged, len(g.samples)) for g in groups]
    assert found == [*((name, 20, 20, 4) for name in ("0-9", "10-19", "20-29")), ("30-39", 0, 0, 0)]
    assert groups[3].mean is None
    for group in groups[:3]:
        ages = [int(face.ages) for face, _ in group.samples]
        assert ages == sorted(ages)
        assert len({age // 5 for age in ages}) == 2  # from both halves of the group
        assert group.samples[0][1].size == (16, 16)


def test_few_pictures_are_opened_of_many(face):
    """100,000 faces: two thousand are averaged, and no more are opened than those and the samples."""
    opened = []
    small = face.resize((8, 8))

    def open_picture(name):
        opened.append(name)
        return small

    faces = [Face(f"{i:06d}.png", 0, i % 90, str(i % 90)) for i in range(100_000)]
    group = portray([("all", faces)], open_picture, progress=False)[0]
    assert group.averaged == 2000
    assert len(opened) <= 2000 + 8 + 1
    assert np.array_equal(group.mean, small)
    ages = [int(face.ages) for face, _ in group.samples]
    assert all(low <= age <= low + 12 for age, low in zip(ages, range(0, 90, 11), strict=False))


def test_large_pictures_are_shrunk_and_fewer(face, monkeypatch):
    monkeypatch.setattr("facegen.data.report.portraits.MAX_AVERAGED", 48)  # as 2,000, in less time
    monkeypatch.setattr("facegen.data.report.portraits.MIN_AVERAGED", 2)
    large = face.resize((1024, 1024))
    faces = [Face(f"{i:03d}.png") for i in range(20)]
    group = portray([("all", faces)], lambda name: large, samples=1, progress=False)[0]
    assert group.mean.size == (256, 256)
    assert group.averaged == 3  # a sixteenth of the pictures at sixteen times the pixels


def test_histogram_has_a_bar_for_each_age_and_a_line_for_each_border():
    chart = age_histogram({0: 5, 26: 100, 60: 40, 116: 1}, AgeGroups.parse("0-12,13-39,41-"))
    assert chart["bars"] == [(0, 5, "even"), (26, 100, "odd"), (60, 40, "even"), (116, 1, "even")]
    assert chart["borders"] == [13, 41]
    assert "the most, 100, are 26 years old" in chart["label"]
    assert age_histogram({40: 1}, AgeGroups.parse("0-12,13-39,41-"))["bars"] == [(40, 1, "out")]


def test_the_page_draws_the_histogram(page):
    assert len([a for a in page.all("rect") if a["class"] in ("even", "odd")]) == 30
    assert [a["x1"] for a in page.all("line") if a["class"] == "border"] == ["10", "20", "30"]
    assert "26 years: 2" in page.text


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9, 10, 49, 51, 99, 100, 1970, 6954, 500_000])
def test_axis_reaches_over_the_highest_bar_in_few_steps(most):
    chart = age_histogram({30: most}, None)
    assert most <= chart["height"] <= 2 * most + 1
    assert 1 <= len(chart["grid"]) <= 6


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 10, "0 %"), (1, 100_000, "< 0.1 %"), (99_999, 100_000, "> 99.9 %"), (10, 10, "100 %"), (1, 3, "33 %")],
)
def test_shares(part, whole, expected):
    assert share(part, whole) == expected


def test_long_text_is_cut_in_its_middle():
    assert cut("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"


@pytest.mark.parametrize(
    "template", ["{{ name }}", '<p title="{{ name | cut(99) }}">', "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(name) }}"]
)
def test_whatever_a_template_prints_is_escaped_once_and_visible(template):
    page = templates().from_string(template).render(name='<&">\x00\t\u202e')
    assert r"&lt;&amp;&#34;&gt;\x00\t\u202e" in page
