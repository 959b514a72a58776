from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from refusals import assert_refused

from facegen.faces.align import align_face, completed, in_photo, measure_template
from facegen.faces.template import UTKFACE_TEMPLATE, Face, alignment_matrix

TEMPLATE_POINTS = np.array(UTKFACE_TEMPLATE.points)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))])
def test_alignment_refuses_impossible_landmarks(landmarks: np.ndarray):
    assert_refused("landmarks", align_face, Image.new("RGB", (50, 50)), landmarks)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_align_face_puts_landmarks_on_the_template(hopper: Image.Image, hopper_face: Face, size: int):
    aligned = align_face(hopper.rotate(25, Image.Resampling.BICUBIC), rotated(hopper_face, hopper, 25), size=size)
    straight = align_face(hopper, hopper_face, size=size)
    assert aligned.size == (size, size)
    # The same face from a turned photo: equal but for resampling. One pixel off gives twice this.
    inner = slice(size // 8, -size // 8)
    a, b = (np.asarray(x.convert("L"), dtype=float)[inner, inner] for x in (aligned, straight))
    assert np.abs(a - b).mean() < 5


def rotated(face: Face, image: Image.Image, degrees: float) -> np.ndarray:
    """A face's landmarks after `image.rotate(degrees)` (counter-clockwise about the middle)."""
    angle = -np.radians(degrees)
    middle = np.array(image.size) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (face.landmarks - middle) @ turn.T + middle


def test_align_face_moves_pixels_where_the_matrix_says():
    image = Image.new("RGB", (400, 300))
    landmarks = TEMPLATE_POINTS * 100 + [150, 80]
    ImageDraw.Draw(image).rectangle((198, 128, 201, 131), fill="white")  # around (200, 130)
    aligned = np.asarray(align_face(image, landmarks, size=100), dtype=float)[..., 0]
    y, x = np.unravel_index(np.arange(10000), (100, 100))
    weights = aligned.ravel() / aligned.sum()
    # Pixel centers are at +0.5; the middle of the white square must land on (50, 50).
    assert abs(weights @ (x + 0.5) - 50) < 0.1
    assert abs(weights @ (y + 0.5) - 50) < 0.1


def test_align_face_reduces_without_aliasing():
    # A one-pixel checkerboard, 20 times too fine for the output, must average to gray.
    checker = np.indices((1300, 1300)).sum(axis=0) % 2 * 255
    image = Image.fromarray(checker.astype(np.uint8)).convert("RGB")
    aligned = align_face(image, TEMPLATE_POINTS * 1280 + 10, size=64)
    assert np.asarray(aligned, dtype=float).std() < 3


def test_align_face_continues_the_edge_outside_the_photo():
    image = Image.new("RGB", (100, 100), (10, 200, 30))
    aligned = align_face(image, TEMPLATE_POINTS * 100 + [60, -50], size=64)
    np.testing.assert_array_equal(np.asarray(aligned), np.full((64, 64, 3), (10, 200, 30)))


def test_align_face_works_when_the_square_misses_the_photo():
    aligned = align_face(Image.new("RGB", (20, 20), "red"), TEMPLATE_POINTS * 30 + 500, size=32)
    assert aligned.getpixel((16, 16)) == (255, 0, 0)


def test_measure_template_recovers_the_template_of_aligned_pictures(hopper: Image.Image, hopper_face: Face):
    aligned = align_face(hopper, hopper_face, UTKFACE_TEMPLATE, 128)
    pictures = [aligned, aligned.convert("L"), aligned.resize((64, 64), Image.Resampling.LANCZOS)]
    measured = measure_template(pictures)
    assert measured is not None
    # One face of one person: her own proportions differ from the median face by some hundredths.
    np.testing.assert_allclose(measured.points, TEMPLATE_POINTS, atol=0.06)


def test_measure_template_is_none_without_faces():
    assert measure_template([]) is None
    assert measure_template([Image.new("RGB", (64, 64), "gray")] * 3) is None


def test_the_missing_half_of_a_face_is_its_other_half(hopper: Image.Image, hopper_face: Face):
    matrix = alignment_matrix(hopper_face, UTKFACE_TEMPLATE, 64)
    whole = np.asarray(align_face(hopper, hopper_face, size=64), dtype=float)
    half = hopper.crop((0, 0, 263, hopper.height))  # the photo ends at the nose
    cut, inside = align_face(half, hopper_face, size=64), in_photo(matrix, 64, half.size)
    assert inside[:, :28].all()
    assert not inside[:, 36:].any()
    both = np.asarray(completed(cut, inside), dtype=float)
    np.testing.assert_array_equal(both[inside], np.asarray(cut, dtype=float)[inside])
    np.testing.assert_array_equal(both[:, 36:], both[:, 27::-1])
    assert np.abs(both - whole).mean() < 0.8 * np.abs(np.asarray(cut) - whole).mean()


def test_a_face_inside_of_its_photo_is_complete(hopper: Image.Image, hopper_face: Face):
    face = align_face(hopper, hopper_face, size=64)
    inside = in_photo(alignment_matrix(hopper_face, UTKFACE_TEMPLATE, 64), 64, hopper.size)
    assert inside.all()
    assert completed(face, inside) is face
    # Nor is there anything to take where both halves are cut.
    assert completed(face, np.zeros_like(inside)) is face
