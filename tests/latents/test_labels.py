import pytest
import torch

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.latents.labels import Classes
from facegen.weights.header import Header

GROUPS = AgeGroups.parse("0-20,21-40,41-60,61-80")


def test_classes_are_chosen_by_number_name_and_age():
    classes = Classes(4, Header({"groups": GROUPS.labels}))
    assert [label.name for label in classes.choose("0-1,3")] == ["0-20", "21-40", "61-80"]
    assert [label.name for label in classes.choose("all")] == GROUPS.labels == [x.name for x in classes.choose()]
    [named] = classes.choose(group="41-60")
    assert named.weights.tolist() == [0, 0, 1, 0]
    half, old = classes.choose(ages=[20, 70])  # 10 and 30 are the middles of the first two groups
    assert (half.name, old.name) == ("age20", "age70")
    assert torch.allclose(half.weights, torch.tensor([0.5, 0.5, 0, 0]))
    assert old.weights.tolist() == [0, 0, 0, 1]


def test_the_usual_label_is_that_of_grown_people():
    assert Classes(4, Header({"groups": GROUPS.labels})).usual.name == "21-40"
    assert Classes(2, Header({}), AgeGroups.parse("0-3,4-9")).usual.name == "0-3"
    assert Classes(2, Header({})).usual.weights.tolist() == [1, 0]
    assert Classes(0, Header({})).usual.weights.shape == (0,)


def test_a_label_asked_for_twice_is_drawn_once():
    assert len(Classes(4, Header({})).choose("1,0-2,1")) == 3


@pytest.mark.parametrize(
    "asked",
    [{"classes": "4"}, {"classes": "2-1"}, {"classes": "x"}, {"group": "21-30"}, {"ages": [200]}, {"ages": [-1]}],
)
def test_what_does_not_exist_is_named_with_what_does(asked):
    with pytest.raises(FacegenError) as error:
        Classes(4, Header({"groups": GROUPS.labels})).choose(**asked)
    assert "4" in str(error.value)


def test_classes_that_are_no_ages_have_no_age():
    with pytest.raises(FacegenError, match="--groups"):
        Classes(4, Header({})).of_age(30)
    assert Classes(4, Header({}), GROUPS).of_age(30).weights.tolist() == [0, 1, 0, 0]


def test_a_generator_without_classes_has_one_label():
    [label] = Classes(0, Header({})).choose("3", "x", [5])
    assert label.name == ""
    assert label.weights.shape == (0,)


@pytest.mark.parametrize("names", [["a b", "a_b", "a/b"], ["cat", "Cat", "dog"], ["a", "a", "a_1"], ["", "", "_1"]])
def test_names_that_are_one_in_files_are_told_apart(names):
    labels = Classes(3, Header({"class_names": names})).choose()
    assert len({label.name.lower() for label in labels}) == 3
    assert [label.name.endswith(f"_{index}") for index, label in enumerate(labels)] == [True] * 3


def test_groups_that_contradict_the_file_are_refused():
    with pytest.raises(FacegenError, match="leave out --groups"):
        Classes(4, Header({"groups": GROUPS.labels}), AgeGroups.parse("0-10,11-20,21-30,31-"))


def test_names_from_strangers_become_safe_file_names():
    [label] = Classes(1, Header({"class_names": ["../a b"]})).choose("0")
    assert "/" not in label.name
    assert " " not in label.name
