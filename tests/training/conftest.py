"""A small archive of real face pictures for the training tests."""

from __future__ import annotations

from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter
from facegen.faces.template import UTKFACE_TEMPLATE

GROUP_SIZES = {"0-20": 10, "21-60": 6, "61+": 4}


@pytest.fixture(scope="session")
def face_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty crops of one photo, 16x16, in three unevenly filled age groups."""
    path = tmp_path_factory.mktemp("archive") / "faces.zip"
    groups = AgeGroups.from_labels(list(GROUP_SIZES))
    random = np.random.default_rng(0)
    with (
        Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as photo,
        ArchiveWriter(path, groups=groups, template=UTKFACE_TEMPLATE) as writer,
    ):
        for label, count in enumerate(GROUP_SIZES.values()):
            for i in range(count):
                left, top = random.integers(150, 220), random.integers(40, 110)
                crop = photo.crop((left, top, left + 200, top + 200)).resize((16, 16))
                writer.add(f"{label}-{i}.jpg", crop, label=label, age=label * 30 + 5)
    return path
