"""The class of a face to draw, by number, name or age."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from facegen.ages import AgeGroups
from facegen.aging.edit import group_of
from facegen.errors import FacegenError
from facegen.networks.age_shift import soft_labels
from facegen.text import number_range, shorten, shown
from facegen.weights.header import Header

ALL = "all"
MAX_NAMES = 24  # classes in one line


@dataclass(frozen=True)
class Label:
    """A class, or an age between two classes.

    name: as a part of a file's name, `21-30` or `age35`; empty for a generator without classes.
    weights: how much of each class, `[c_dim]`, adds up to 1.
    age: in years, if it was chosen by age.
    """

    name: str
    weights: torch.Tensor
    age: float | None = None


class Classes:
    """The classes of a generator, by number, name and age.

    Args:
        c_dim: how many there are; 0 for none.
        header: what the generator's file says of them.
        groups: the age groups, if the file does not name them; None if the classes are not age groups.
    """

    def __init__(self, c_dim: int, header: Header, groups: AgeGroups | None = None) -> None:
        if header.groups is not None and groups not in (None, header.groups):
            raise FacegenError(f"this generator's age groups are {header.groups}, as its file says: leave out --groups")
        known = header.groups if groups is None else groups
        if known is not None and len(known) != c_dim:
            raise FacegenError(f"this generator has {c_dim} classes, but there are {len(known)} age groups: {known}")
        names = known.labels if known is not None else [str(name) for name in header.class_names]
        self.c_dim, self.groups = c_dim, known
        self.names = names if len(names) == c_dim else [f"class{index}" for index in range(c_dim)]
        in_files = [in_file_name(name) for name in self.names]
        if len({name.casefold() for name in in_files}) < c_dim:  # some systems hold cat and Cat for one, too
            in_files = [f"{name}_{index}" for index, name in enumerate(in_files)]
        self._in_files = in_files

    def choose(self, classes: str | None = None, group: str | None = None, ages: Sequence[float] = ()) -> list[Label]:
        """Return the labels that a user asks for, in the order asked; nothing asked is every class.

        Args:
            classes: numbers from 0 and ranges, as in `3` or `0-9`, or `all`.
            group: names of age groups or classes, as in `21-30,31-40`.
            ages: years; an age between the middles of two groups is a label between both.

        Raises:
            FacegenError: a class, group or age that this generator does not have.
        """
        if self.c_dim == 0:
            return [Label("", torch.zeros([0]))]
        labels = []
        if classes is not None:
            labels += [self._of_class(index) for index in self._numbers(classes)]
        if group is not None:
            labels += [self._of_class(self._number(name)) for name in group.split(",")]
        labels += [self.of_age(age) for age in ages]
        if classes is group is None and not ages:
            labels = [self._of_class(index) for index in range(self.c_dim)]
        return list({label.name: label for label in labels}.values())

    def of_age(self, age: float) -> Label:
        """The label of an age in years; a FacegenError where the classes are no age groups, or none of this age."""
        if self.groups is None:
            raise FacegenError(
                "the generator's file does not say which ages its classes are: give --groups, or choose by --class"
            )
        group_of(age, self.groups)
        return Label(f"age{age:g}", self.weights_of(torch.tensor([float(age)]))[0], float(age))

    def weights_of(self, ages: torch.Tensor) -> torch.Tensor:
        """How much of each class ages `[N]` in years are: `[N, c_dim]`; the classes must be age groups."""
        assert self.groups is not None
        return soft_labels(ages, [float(self.groups.middle_age(index)) for index in range(self.c_dim)])

    @property
    def usual(self) -> Label:
        """The default label of a face: the age group of 30-year-olds, or the first class if there are no age groups."""
        if self.c_dim == 0:
            return Label("", torch.zeros([0]))
        group = None if self.groups is None else self.groups.index_of(30)
        return self._of_class(group or 0)

    @property
    def in_words(self) -> str:
        """`10 classes: 0 is 0-10, 1 is 11-20, ...`."""
        shown_names = [f"{index} is {shown(name, 30)}" for index, name in enumerate(self.names[:MAX_NAMES])]
        more = ", ..." if self.c_dim > MAX_NAMES else ""
        return f"{self.c_dim} classes: {', '.join(shown_names)}{more}"

    def _of_class(self, index: int) -> Label:
        weights = torch.zeros([self.c_dim])
        weights[index] = 1
        return Label(self._in_files[index], weights)

    def _numbers(self, text: str) -> list[int]:
        if text.strip().lower() == ALL:
            return list(range(self.c_dim))
        numbers: list[int] = []
        for part in text.split(","):
            chosen = number_range(part)
            if chosen is None:
                raise FacegenError(f"{shorten(part, 40)!r} is not a class: this generator has {self.in_words}")
            first, last = chosen.start, chosen.stop - 1
            if last < first:
                raise FacegenError(f"classes {first}-{last} fall: write the smaller one first, of {self.c_dim} classes")
            if last >= self.c_dim:
                raise FacegenError(f"there is no class {last}: this generator has {self.in_words}")
            numbers += chosen
        return numbers

    def _number(self, name: str) -> int:
        if name.strip() not in self.names:
            raise FacegenError(f"there is no group {shorten(name.strip(), 40)!r}: this generator has {self.in_words}")
        return self.names.index(name.strip())


def in_file_name(name: str) -> str:
    """A class's name as a part of a file's name: letters, digits, `+`, `-`, `_` and `.` stay."""
    return re.sub(r"[^\w+.-]+", "_", name)[:60]
