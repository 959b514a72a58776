from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from facegen.figures.plots import plot_ages, plot_curves


def test_curves_are_drawn_as_png(tmp_path: Path):
    path = plot_curves(
        tmp_path / "curve.png",
        {"training": ([1, 2, 3], [1.0, 0.8, 0.7]), "validation": ([1, 2, 3], [1.0, 0.9, 0.85])},
        xlabel="epoch",
        ylabel="MSE",
        baselines={"mean": 1.0},
    )
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]


def test_ages_are_drawn_beside_the_errors_of_each_group(tmp_path: Path):
    true = np.array([3, 25, 47, 116])
    path = plot_ages(tmp_path / "ages.png", true, true * 0.9 + 2, {"0-10": 1.7, "21-30": 0.5, "41-50": 2.7})
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > image.height
        assert np.asarray(image.convert("L")).std() > 5
    assert [p.name for p in tmp_path.iterdir()] == ["ages.png"]
