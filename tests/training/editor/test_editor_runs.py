"""What an editor's run starts from and goes on with, beside what all trainings have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import small_generator, write_faces
from refusals import assert_refused

from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.training.editor.loop import train_editor
from facegen.training.editor.options import EditorOptions
from facegen.training.run.folder import read_options
from facegen.weights.load import load_editor
from facegen.weights.native import save_networks

GROUPS = {"groups": ["0-20", "21-60", "61+"]}


@pytest.fixture
def options(tmp_path: Path) -> EditorOptions:
    """Of two steps, the second of pictures of the full size."""
    data = write_faces(tmp_path / "aged.zip", range(0, 80, 4), size=32)
    save_networks(tmp_path / "g.safetensors", {"G_ema": small_generator(3)}, GROUPS)
    small = {"widths": (8, 8), "inner_size": 16, "batch": 8, "snap": 0.008, "face_network": "none"}
    return EditorOptions(str(data), str(tmp_path / "g.safetensors"), kimg=0.016, **small)


def trained(options: EditorOptions, tmp_path: Path, name: str = "runs") -> Path:
    return train_editor(options, tmp_path / name, device="cpu", progress=False)


def test_a_run_that_started_from_another_needs_it_only_once(options: EditorOptions, tmp_path: Path):
    first = trained(options, tmp_path)
    known = load_editor(first)[0].state_dict()
    save_networks(tmp_path / "start.safetensors", {"editor": load_editor(first)[0]}, {})
    run = trained(replace(options, init=str(tmp_path / "start.safetensors"), lr=1e-9), tmp_path, "more")
    for name, tensor in load_editor(run)[0].state_dict().items():
        torch.testing.assert_close(tensor, known[name], atol=1e-4, rtol=1e-3)  # both are rounded to float16
    (tmp_path / "start.safetensors").unlink()
    train_editor(replace(read_options(run, EditorOptions), kimg=0.024), resume=run, device="cpu", progress=False)


def test_an_editor_of_another_shape_is_no_start(options: EditorOptions, tmp_path: Path):
    first = trained(options, tmp_path)
    wider = replace(options, widths=(8, 16), init=str(first))
    assert_refused("another shape", trained, wider, tmp_path, "more")
    assert not (tmp_path / "more").exists()


def test_its_ages_are_those_of_the_faces(options: EditorOptions, tmp_path: Path):
    assert load_editor(trained(options, tmp_path))[0].ages == [4, 72]  # 0 and 76 are held back


def test_faces_that_are_aligned_otherwise_than_the_generators(options: EditorOptions, tmp_path: Path):
    wide = [[0.2, 0.3], [0.8, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]
    assert load_editor(trained(options, tmp_path))[1].template == UTKFACE_TEMPLATE  # the archive says so
    save_networks(tmp_path / "g.safetensors", {"G_ema": small_generator(3)}, {**GROUPS, "template": wide})
    assert_refused("aligned differently", trained, options, tmp_path, "more")
