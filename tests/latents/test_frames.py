import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.errors import FacegenError
from facegen.latents.frames import check_frames, save_frames
from facegen.latents.options import VideoOptions


def pictures(count):
    return (np.full([8, 8, 3], 40 * number % 256, np.uint8) for number in range(count))


def test_frames_and_a_gif_that_does_not_turn_back(tmp_path):
    paths = save_frames(pictures(5), 5, tmp_path, "walk", VideoOptions(video="gif", fps=10), "a walk")
    assert paths == [tmp_path / "walk.gif", tmp_path / "frames"]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [f"frame000{i}.png" for i in range(5)]
    with Image.open(tmp_path / "walk.gif") as video:
        assert video.n_frames == 5
    with Image.open(tmp_path / "frames/frame0003.png") as frame:
        assert np.asarray(frame)[0, 0].tolist() == [120] * 3


def test_frames_of_a_longer_run_before_go_and_other_files_stay(tmp_path):
    options = VideoOptions(video="none")
    save_frames(pictures(6), 6, tmp_path, "walk", options, "a walk")
    (tmp_path / "frames/frame0009.txt").write_text("mine")
    save_frames(pictures(2), 2, tmp_path, "walk", options, "a walk")
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["frame0000.png", "frame0001.png", "frame0009.txt"]


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if "frame0002.png" in path.name:
            write(path, b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_frames(pictures(50), 50, tmp_path, "walk", VideoOptions(video="gif"), "a walk")
    assert caught.value.filename == str(tmp_path / "frames/frame0002.png")
    assert not (tmp_path / "walk.gif").exists()
    assert not list(tmp_path.rglob(".*"))


def test_nothing_to_write_is_said_before_the_work(tmp_path):
    with pytest.raises(FacegenError, match="nothing to write"):
        check_frames(VideoOptions(video="none", keep_frames=False), tmp_path)
