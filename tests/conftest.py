"""What every test starts with, and real pictures for all of them: the face that matplotlib ships.

Being here, it also puts this folder where tests find `golden_numbers` and `helpers`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import HOPPER
from PIL import Image

from facegen.images import encode_png, open_photo

# Tests work on small tensors, where a second thread only waits; the commands that they start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
# The numbers of float32, on any processor; who tests bfloat16 asks for it.
os.environ.setdefault("FACEGEN_BFLOAT16", "0")


@pytest.fixture(autouse=True)
def fixed_seed():
    """Nothing that a test draws depends on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_environment():
    """What a command sets for the processes that it starts ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def hopper() -> Image.Image:
    """Grace Hopper, 512x600, RGB."""
    return open_photo(HOPPER)


@pytest.fixture(scope="session")
def face(hopper: Image.Image) -> Image.Image:
    """Her face alone, cropped as tightly as aligned data sets are, 128x128."""
    return hopper.crop((148, 118, 389, 359)).resize((128, 128), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def tinted(face: Image.Image) -> Callable[..., Image.Image]:
    """A function (index, size) -> the face in another color: pictures that can be told apart by their mean."""

    def tint(index: int, size: int = 16) -> Image.Image:
        gains = np.random.default_rng(index).uniform(0.4, 1.0, 3)
        small = np.asarray(face.resize((size, size), Image.Resampling.LANCZOS))
        return Image.fromarray((small * gains).astype(np.uint8))

    return tint


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a zip of `{name: PIL picture or bytes}` and, unless None, a dataset.json."""

    def write(
        files: dict[str, Image.Image | bytes],
        labels: Sequence | dict | None = None,
        extra: dict | None = None,
        name: str = "faces.zip",
    ) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for file_name, content in files.items():
                archive.writestr(file_name, encode_png(content) if isinstance(content, Image.Image) else content)
            if labels is not None:
                content = labels if isinstance(labels, dict) else {"labels": labels}
                archive.writestr("dataset.json", json.dumps(content))
            if extra is not None:
                archive.writestr("facegen.json", json.dumps(extra))
        return path

    return write
