from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from facegen.aging.edit import Edit, Request
from facegen.aging.transfer import AgeTransfer
from facegen.clips import age_clip


@pytest.fixture(scope="session")
def transfer() -> AgeTransfer:
    return AgeTransfer.from_files(device="cpu")


@pytest.fixture
def age(transfer: AgeTransfer, tmp_path: Path):
    """A function (clip, ages) -> the paths of the clip at these ages."""

    def call(path: Path, *ages: float, edit: Edit | None = None, **request) -> list[Path]:
        return age_clip(
            transfer, path, tmp_path / "out", path.stem, Request(ages=ages or [20], **request), edit or Edit()
        )

    return call


@pytest.fixture(scope="session")
def landscape() -> Image.Image:
    """A picture without a face."""
    return Image.linear_gradient("L").resize((320, 240)).convert("RGB")
