from __future__ import annotations

import numpy as np
import pytest

from facegen.ages import AgeGroups
from facegen.errors import FacegenError


def test_default_is_ten_groups_and_includes_the_thirties():
    groups = AgeGroups.default()
    assert groups.labels == [
        "0-10", "11-20", "21-30", "31-40", "41-50", "51-60", "61-70", "71-80", "81-90", "91-100",
    ]  # fmt: skip
    assert len(groups) == 10


@pytest.mark.parametrize(
    ("age", "index"), [(0, 0), (10, 0), (11, 1), (20, 1), (31, 3), (40, 3), (90, 8), (91, 9), (100, 9), (116, 9)]
)
def test_default_puts_every_age_into_its_group(age, index):
    assert AgeGroups.default().index_of(age) == index


def test_every_human_age_has_exactly_one_default_group():
    indices = [AgeGroups.default().index_of(age) for age in np.arange(123)]
    assert indices == sorted(indices)
    assert set(indices) == set(range(10))


def test_parse_contiguous_groups_with_an_open_end():
    groups = AgeGroups.parse("0-12,13-19,20-39,40-59,60-")
    assert groups.bounds == ((0, 12), (13, 19), (20, 39), (40, 59), (60, None))
    assert groups.labels == ["0-12", "13-19", "20-39", "40-59", "60+"]
    assert [groups.index_of(age) for age in (0, 12, 13, 59, 60, 116)] == [0, 0, 1, 3, 4, 4]


def test_parse_takes_spaces_and_a_plus():
    assert AgeGroups.parse(" 0 - 9 , 10+ ").bounds == ((0, 9), (10, None))


def test_gaps_are_allowed_and_belong_to_no_group():
    groups = AgeGroups.parse("5-10,20-30")
    assert [groups.index_of(age) for age in (4, 5, 11, 19, 20, 31)] == [None, 0, None, None, 1, None]


def test_only_an_end_at_100_is_open_without_saying_so():
    assert AgeGroups.parse("0-50,51-99").index_of(101) is None
    assert AgeGroups.parse("0-50,51-100").index_of(101) == 1


def test_negative_age_is_in_no_group():
    assert AgeGroups.default().index_of(-1) is None


@pytest.mark.parametrize("text", ["0-10,11-20", "0-12,13-19,60-", "7-7", "0-10,11-20,91-100", str(AgeGroups.default())])
def test_labels_lead_back_to_the_groups(text):
    groups = AgeGroups.parse(text)
    assert AgeGroups.from_labels(groups.labels) == groups
    assert AgeGroups.parse(str(groups)) == groups
    assert hash(AgeGroups.parse(text)) == hash(groups)


def test_middle_age_lies_in_its_group():
    groups = AgeGroups.default()
    assert [groups.index_of(groups.middle_age(i)) for i in range(10)] == list(range(10))
    assert groups.middle_age(2) == 25
    assert AgeGroups.parse("0-59,60-").middle_age(1) == 70


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no age groups"),
        ("  ", "no age groups"),
        ("0-10,", "'' is not an age group"),
        ("0-10,,20-30", "'' is not an age group"),
        ("young,old", "'young' is not an age group"),
        ("-10", "'-10' is not an age group"),
        ("0-10,11", "'11' is not an age group"),
        ("0-10;11-20", "'0-10;11-20' is not an age group"),
        ("0-10-20", "is not an age group"),
        ("0-1000", "is not an age group"),
        ("0-10,20-11", "20-11 ends before it begins"),
        ("0-10,10-20", "0-10 and 10-20 overlap"),
        ("0-30,10-20", "0-30 and 10-20 overlap"),
        ("0-10,0-10", "0-10 and 0-10 overlap"),
        ("0-,20-30", "0+ and 20-30 overlap"),
        ("0-,20-", "0+ and 20+ overlap"),
        ("11-20,0-10", "0-10 comes after 11-20"),
    ],
)
def test_wrong_groups_are_refused_in_one_line(text, words):
    with pytest.raises(FacegenError) as caught:
        AgeGroups.parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_from_labels_refuses_what_is_not_text():
    with pytest.raises(FacegenError, match="5 is not an age group"):
        AgeGroups.from_labels(["0-4", 5])


def test_no_groups_at_all_are_refused():
    with pytest.raises(FacegenError, match="no age groups"):
        AgeGroups(())


def test_more_groups_than_ages_are_refused():
    with pytest.raises(FacegenError, match="age groups, more than"):
        AgeGroups.from_labels(["0-1"] * 1001)
