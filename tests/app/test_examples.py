"""The photos that the page offers to who has none at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from facegen.app.examples import example_photos
from facegen.faces.find import find_faces
from facegen.images import open_photo

ROOT = Path(__file__).parents[2]
SHIPPED = {name: path for name, path in example_photos().items() if path.is_relative_to(ROOT / "facegen")}


def test_there_are_some_by_name():
    assert {"Grace Hopper", "Eileen Collins"} <= set(example_photos())


@pytest.mark.parametrize("name", example_photos())
def test_each_shows_one_face_large_enough_to_work_on(name):
    (face,) = find_faces(open_photo(example_photos()[name]))
    left, _, right, _ = face.box
    assert right - left > 64  # pixels of the generator


@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_with_the_package_is_small_and_notice_says_where_it_is_from(name):
    path = SHIPPED[name]
    assert path.stat().st_size < 70_000
    with Image.open(path) as photo:
        assert max(photo.size) <= 640
        assert not photo.getexif()
    assert path.name in (ROOT / "NOTICE").read_text(encoding="utf-8")
