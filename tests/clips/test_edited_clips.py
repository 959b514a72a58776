"""Clips whose faces an editor changes."""

from __future__ import annotations

from pathlib import Path

import clip_files as clips
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import assert_refused

from facegen.aging.edit import Edit, Request
from facegen.aging.transfer import AgeTransfer
from facegen.clips import age, age_clip, method
from facegen.clips.method import ByEditor, ByGenerator, method_of
from facegen.networks.editor import Editor
from facegen.weights.native import save_networks

BY_EDITOR = Edit(method="editor", strength=1.0)


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> AgeTransfer:
    torch.manual_seed(3)
    editor = Editor((8, 8), 8, 32)
    torch.nn.init.normal_(editor.last.weight, std=0.1)
    torch.nn.init.constant_(editor.last.bias, 0.1)
    path = tmp_path_factory.mktemp("editor") / "e.safetensors"
    save_networks(path, {"editor": editor}, {})
    return AgeTransfer.from_files(editor=path, device="cpu")


def test_a_face_changes_and_does_not_flicker(edits: AgeTransfer, tmp_path: Path, hopper: Image.Image):
    frames = clips.still(hopper, 8)
    source = clips.write_animation(tmp_path / "clip.png", frames)
    (path,) = age_clip(edits, source, tmp_path / "out", "clip", Request(ages=[20]), BY_EDITOR)
    after, durations = clips.read_animation(path)
    before = np.stack([np.asarray(frame) for frame in frames]).astype(np.float32)
    assert len(durations) == len(frames)
    change = after[1:] - before[1:]
    assert np.abs(change).max() > 4
    assert np.abs(np.diff(change, axis=0)).mean() < 0.2  # levels from frame to frame


def test_the_method_of_an_edit(edits: AgeTransfer, hopper: Image.Image):
    by_editor = method_of(edits, BY_EDITOR)
    assert isinstance(by_editor, ByEditor)
    assert isinstance(method_of(edits, Edit()), ByGenerator)
    landmarks = np.array([[225.0, 195.0], [320.0, 190.0], [275.0, 250.0], [230.0, 295.0], [315.0, 290.0]])
    crop = by_editor.cut(hopper, landmarks)
    assert crop.size == (by_editor.size, by_editor.size)
    assert by_editor.mask.shape == (by_editor.size, by_editor.size, 1)
    assert [face.size for face in by_editor.faces([crop])] == [(method.SIDE, method.SIDE)]
    eyes = landmarks[:2] @ by_editor.matrix(landmarks)[:, :2].T + by_editor.matrix(landmarks)[:, 2]
    margin = (by_editor.size - method.SIDE) / 2
    template = np.array(edits.template.points[:2]) * method.SIDE + margin
    np.testing.assert_allclose(eyes, template, atol=5)


def test_faces_that_are_too_small_for_an_editor(
    edits: AgeTransfer, tmp_path: Path, hopper: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    source = clips.write_animation(tmp_path / "clip.gif", clips.still(hopper, 3))
    monkeypatch.setattr(age, "SMALLEST", 500)
    request = Request(ages=[20])
    assert_refused("32 pixels", age_clip, edits, source, tmp_path / "out", "clip", request, BY_EDITOR)
    assert age_clip(edits, source, tmp_path / "out", "clip", request, Edit(strength=1.0))


def test_without_an_editor_a_clip_is_refused(
    transfer: AgeTransfer, tmp_path: Path, hopper: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "editor", None)
    source = clips.write_animation(tmp_path / "clip.gif", clips.still(hopper, 3))
    assert_refused("--editor", age_clip, transfer, source, tmp_path / "out", "clip", Request(ages=[20]), BY_EDITOR)
