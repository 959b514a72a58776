"""Where Grace Hopper's face is."""

from __future__ import annotations

import pytest
from PIL import Image

from facegen.faces.find import find_faces
from facegen.faces.template import Face


@pytest.fixture(scope="session")
def hopper_face(hopper: Image.Image) -> Face:
    return find_faces(hopper)[0]
