from __future__ import annotations

import numpy as np
import pytest
from refusals import assert_refused

from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, alignment_matrix, invert_matrix

TEMPLATE_POINTS = np.array(UTKFACE_TEMPLATE.points)


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def test_template_goes_through_json_unchanged():
    assert AlignmentTemplate.from_json(UTKFACE_TEMPLATE.to_json()) == UTKFACE_TEMPLATE


@pytest.mark.parametrize("points", [[], [[0.1, 0.2]] * 4, [[0.1]] * 5, None, [["a", "b"]] * 5, [[np.nan, 0]] * 5])
def test_template_refuses_anything_but_five_points(points: list):
    assert_refused("five", AlignmentTemplate.from_json, points)


def test_alignment_matrix_is_exact_for_a_similarity():
    forward = similarity(0.7, 3.0, (20.0, -5.0))
    landmarks = (TEMPLATE_POINTS * 64) @ forward[:, :2].T + forward[:, 2]
    matrix = alignment_matrix(landmarks, UTKFACE_TEMPLATE, 64)
    np.testing.assert_allclose(matrix, invert_matrix(forward), atol=1e-9)
    np.testing.assert_allclose(invert_matrix(matrix), forward, atol=1e-9)


def test_alignment_matrix_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    landmarks = TEMPLATE_POINTS * 200 + rng.normal(0, 5, (5, 2))

    def error(matrix: np.ndarray) -> float:
        return float(np.sum((landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE_POINTS * 64) ** 2))

    best = alignment_matrix(landmarks, UTKFACE_TEMPLATE, 64)
    for angle, scale, x in [(0.01, 1, 0), (-0.01, 1, 0), (0, 1.01, 0), (0, 0.99, 0), (0, 1, 0.3), (0, 1, -0.3)]:
        change = similarity(angle, scale, (x, 0))
        moved = np.concatenate([change[:, :2] @ best[:, :2], change[:, :2] @ best[:, 2:] + change[:, 2:]], 1)
        assert error(moved) > error(best)


def test_alignment_matrix_never_mirrors():
    mirrored = TEMPLATE_POINTS * [-100, 100]
    assert np.linalg.det(alignment_matrix(mirrored, UTKFACE_TEMPLATE, 64)[:, :2]) > 0
