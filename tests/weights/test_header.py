import json

import pytest
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.weights.header import Header, checksum, without_paths

CONTENT = {
    "groups": ["0-20", "21+"],
    "template": UTKFACE_TEMPLATE.to_json(),
    "kimg": 12,
    "license": "none",
    "training_options": {"data": "/home/me/faces.zip", "lr": 0.002},
    "networks": {"G": {"kind": "generator", "kwargs": {"z_dim": 8}}},
    "format_version": 2,
    "of tomorrow": [1],
}


def test_known_keys_are_typed_and_unknown_ones_are_kept():
    header = Header(CONTENT)
    assert header.groups == AgeGroups.parse("0-20,21+")
    assert header.template == UTKFACE_TEMPLATE
    assert (header.kimg, header.license, header.class_names) == (12.0, "none", ["0-20", "21+"])
    assert header.networks["G"]["kwargs"] == {"z_dim": 8}
    assert header.training_options["lr"] == 0.002
    assert header == CONTENT
    assert header.metadata["of tomorrow"] == [1]
    assert header.metadata.keys().isdisjoint({"networks", "format_version"})


@pytest.mark.parametrize("content", [{}, dict.fromkeys(CONTENT), {"groups": [], "kimg": "many", "license": 3}])
def test_what_the_file_does_not_say_is_none(content):
    header = Header({**content, "networks": {}})
    assert header.groups is header.template is header.kimg is header.license is None
    assert header.class_names == []
    assert header.training_options == {}


@pytest.mark.parametrize("content", [{"groups": ["young"]}, {"groups": 3}, {"template": [[1, 2]]}, {"template": "x"}])
def test_what_is_not_understood_is_an_error_once_it_is_asked_for(content):
    header = Header(content)
    assert header == content
    with pytest.raises(FacegenError):
        assert header.groups is header.template


def test_the_checksum_is_of_the_rest():
    text = Header(CONTENT).to_json()
    assert json.loads(text) == {**CONTENT, "sha256": checksum(CONTENT)}
    assert Header(json.loads(text)).to_json() == text


def test_folders_of_this_machine_go():
    assert without_paths(CONTENT)["training_options"] == {"data": "faces.zip", "lr": 0.002}
    assert CONTENT["training_options"]["data"] == "/home/me/faces.zip"
    assert without_paths({"kimg": 1}) == {"kimg": 1}
    options = {"encoder": "/a/e.safetensors", "age_estimators": ("/a/age.safetensors", "/b/other"), "generator": None}
    shown = {"encoder": "e.safetensors", "age_estimators": ["age.safetensors", "other"], "generator": None}
    assert without_paths({"training_options": options}) == {"training_options": shown}


def test_groups_of_a_generator(recwarn):
    three = AgeGroups.parse("0-20,21-40,41+")
    known = Header({"groups": three.labels, "networks": {}})
    assert known.groups_of(3) == known.groups_of(3, three) == three
    assert_refused("leave out --groups", known.groups_of, 3, AgeGroups.parse("0-10,11-40,41+"))
    assert_refused("4 classes, but there are 3 age groups", known.groups_of, 4)
    foreign = Header({"networks": {}})
    assert foreign.groups_of(3, three) == three
    assert_refused("10 classes, but there are 3 age groups", foreign.groups_of, 10, three)
    assert_refused("give --groups", foreign.groups_of, 9)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="if not so, give --groups"):
        assert foreign.groups_of(10) == AgeGroups.default()
