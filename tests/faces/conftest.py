"""Grace Hopper, and where her face is."""

from __future__ import annotations

import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image

from facegen.faces.find import find_faces, open_photo
from facegen.faces.template import Face


@pytest.fixture(scope="session")
def hopper() -> Image.Image:
    return open_photo(get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="session")
def hopper_face(hopper: Image.Image) -> Face:
    return find_faces(hopper)[0]
