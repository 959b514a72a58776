"""What tests of archives start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def make_described(make_zip: Callable[..., Path], tinted: Callable[..., Image.Image]) -> Callable[..., Path]:
    """A function that writes an archive of a face for each dict of what facegen.json says of it."""

    def write(*known: dict, labels: Sequence[int] | None = None) -> Path:
        names = [f"{index:02d}.png" for index in range(len(known))]
        faces = [{"file": name, "age": None, "source": name, **more} for name, more in zip(names, known, strict=True)]
        pictures = {name: tinted(index) for index, name in enumerate(names)}
        labeled = [[name, label] for name, label in zip(names, labels or [0] * len(names), strict=True)]
        return make_zip(pictures, labeled, {"format": 1, "groups": ["0-10", "11-20", "21-30"], "faces": faces})

    return write
