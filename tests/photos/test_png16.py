"""PNG of 16 bits a channel: read by Pillow's decoder, written by ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_files import png16
from PIL import Image
from refusals import assert_refused

from facegen.photos import png16 as module
from facegen.photos.png16 import is_png16, read_png16, write_png16


def noise(channels: int, height: int = 40, width: int = 30) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 65536, (height, width, channels), dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_bit_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int):
    monkeypatch.setattr(module, "BAND", 7)
    samples = noise(channels)
    data = png16(samples)
    assert is_png16(data)
    read = read_png16(data, "x")
    np.testing.assert_array_equal(read.reshape(samples.shape), samples)
    write_png16(read, tmp_path / "x.png")
    np.testing.assert_array_equal(read_png16((tmp_path / "x.png").read_bytes(), "x"), read)
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (30, 40)
        image.load()


def test_damaged_ones_are_refused():
    data = png16(noise(3))
    assert_refused("x: ", read_png16, data[:-2000], "x")
    assert_refused("x: ", read_png16, data[:100] + bytes(500) + data[600:], "x")
    assert not is_png16(data[:20])
    assert not is_png16(b"")
