from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


@pytest.mark.parametrize("content", [b"figure.facecolor: red\nsavefig.dpi: 30\ntext.usetex: True\n", b"\xff\xfe", None])
def test_settings_in_the_current_folder(tmp_path: Path, monkeypatch, content: bytes | None):
    """What a `matplotlibrc` there says does not spoil a plot; one that matplotlib trips over is named."""
    if content is not None:
        (tmp_path / "matplotlibrc").write_bytes(content)
    elif hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "matplotlibrc")
    code = (
        "from facegen.figures.plots import plot_curves; from facegen.errors import FacegenError\n"
        "try: plot_curves('here.png', {'a': ([1, 2], [1, 2])}, xlabel='x', ylabel='y')\n"
        "except FacegenError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    if content and content.startswith(b"figure"):
        plain = plot_curves(tmp_path / "plain.png", {"a": ([1, 2], [1, 2])}, xlabel="x", ylabel="y")
        assert (tmp_path / "here.png").read_bytes() == plain.read_bytes()
    elif content or hasattr(os, "mkfifo"):
        assert done.stdout.startswith("matplotlibrc: ")
        assert len(done.stdout.splitlines()) == 1
