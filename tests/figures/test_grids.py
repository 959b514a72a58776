from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import assert_refused

from facegen.figures.grids import age_strip, image_grid, save_image_grid, to_pixels
from facegen.images import save_picture


def pictures(count: int, size: int = 64) -> np.ndarray:
    """Plain pictures of different grays."""
    levels = (np.arange(count, dtype=np.uint8) * 20 + 10)[:, None, None, None]
    return np.broadcast_to(levels, (count, size, size, 3)).copy()


def test_to_pixels_spans_the_range():
    images = torch.tensor([-1.5, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    result = to_pixels(images)
    assert result.shape == (1, 1, 5, 3)
    assert result[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_grid_puts_every_picture_in_its_place():
    grid = np.asarray(image_grid(pictures(6), columns=3))
    assert grid.shape == (130, 196, 3)
    for index in range(6):
        row, column = divmod(index, 3)
        assert grid[row * 66 + 32, column * 66 + 32].tolist() == [index * 20 + 10] * 3
    assert grid[64, 0].tolist() == [255, 255, 255]  # the gap


def test_grid_with_a_short_last_row_and_fewer_pictures_than_columns():
    assert image_grid(pictures(5), columns=3).size == (196, 130)
    assert image_grid(pictures(2), columns=9).size == (130, 64)


def test_grid_enlarges_small_pictures_by_whole_factors():
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[0, :, 8:] = 255
    grid = np.asarray(image_grid(image, columns=1))
    assert grid.shape == (64, 64, 3)
    assert grid[:, :24].max() < 10
    assert grid[:, -24:].min() > 245
    assert image_grid(image, columns=1, tile=100).size == (100, 100)


def test_grid_labels_take_room_beside_the_pictures():
    grid = image_grid(pictures(4), 2, column_labels=["0-10", "11-20"], row_labels=["one", "two"])
    pixels = np.asarray(grid)
    left, top = grid.width - 130, grid.height - 130
    assert left > 10
    assert top > 10
    assert pixels[top + 5, left + 5].tolist() == [10, 10, 10]
    assert pixels[:top].min() < 100  # ink over the columns
    assert pixels[top:, :left].min() < 100  # ink left of the rows


def test_grid_accepts_grayscale():
    assert image_grid(np.full((1, 64, 64, 1), 77, np.uint8), 1).getpixel((5, 5)) == (77, 77, 77)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"images": pictures(0)}, "at least one picture"),
        ({"columns": 0}, "at least one column"),
        ({"images": pictures(2).astype(np.float32)}, "uint8"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, "uint8"),
        ({"column_labels": ["a"]}, "1 column labels for 2 columns"),
        ({"row_labels": ["a", "b"]}, "2 row labels for 1 rows"),
    ],
)
def test_grid_refuses(arguments: dict, reason: str):
    assert_refused(reason, image_grid, **{"images": pictures(2), "columns": 2, **arguments})


def test_save_image_grid_writes_the_grid(tmp_path: Path):
    path = save_image_grid(pictures(4), tmp_path / "new" / "grid.png", 2)
    assert path == tmp_path / "new" / "grid.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(image_grid(pictures(4), 2)))


def test_save_picture_leaves_nothing_behind_for_an_unknown_format(tmp_path: Path):
    assert_refused(".xyz", save_picture, Image.new("RGB", (4, 4)), tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


def test_strip_shows_pictures_and_captions():
    faces = [Image.fromarray(image) for image in pictures(4)]
    captions = ["input", "reconstruction", "0-10", "91-100"]
    strip = age_strip(faces, captions, tile=100)
    pixels = np.asarray(strip)
    assert strip.width == 4 * 102 - 2
    for index in range(4):
        assert pixels[50, index * 102 + 50].tolist() == [index * 20 + 10] * 3
        assert pixels[100:, index * 102 : index * 102 + 100].min() < 100  # a caption under each
    # Even the longest caption stays inside its tile: the gap beside it has no ink.
    assert pixels[100:, 202:204].min() > 200


def test_strip_wraps_long_rows():
    strip = age_strip([Image.new("RGB", (8, 8))] * 5, ["a"] * 5, tile=50, columns=2)
    assert strip.width == 102
    assert strip.height > 3 * 50


def test_strip_needs_a_caption_for_each_picture():
    for pictures_of_a_strip in ([Image.new("RGB", (8, 8))], []):
        assert_refused("caption", age_strip, pictures_of_a_strip, [])
