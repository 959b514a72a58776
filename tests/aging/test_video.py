from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from facegen.aging import video
from facegen.aging.edit import Output
from facegen.aging.results import AgedFace, FaceResult
from facegen.aging.video import check_video, morph, morph_length, morph_strip, save_morph, save_video
from facegen.batch.save import save_results
from facegen.errors import FacegenError

COLORS = ["#c03020", "#30a040", "#2050c0", "#d0d0d0"]


def pictures(count: int = 4, size: tuple[int, int] = (33, 47)) -> list[Image.Image]:
    return [Image.new("RGB", size, COLORS[index % 4]) for index in range(count)]


def mp4_frames(path: Path) -> tuple[dict, list[np.ndarray]]:
    """What a player sees: metadata, and uint8 [H, W, 3] of each frame."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


def gif_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        frames = []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
        return frames


def result(count: int = 3, size: int = 16) -> FaceResult:
    aged = [
        AgedFace(f"age {20 * index}", 20.0 * index, index, picture)
        for index, picture in enumerate(pictures(count, (size, size)))
    ]
    face = Image.new("RGB", (size, size), "black")
    return FaceResult((0, 0, 16, 16), np.eye(2, 3), face, face, 30.0, 1, aged, np.zeros(4))


def test_mp4_holds_every_frame_in_even_sizes(tmp_path: Path):
    shown = pictures()
    path = save_video(iter(shown), tmp_path / "new" / "ages.mp4", 12)
    meta, frames = mp4_frames(path)
    assert meta["size"] == (34, 48)
    assert meta["fps"] == 12
    assert meta["pix_fmt"].startswith("yuv420p")
    assert len(frames) == 4
    for frame, picture in zip(frames, shown, strict=True):
        # H.264 rounds colors; its first decoder step is off by a few levels, not by a wrong color matrix's 20.
        np.testing.assert_allclose(frame[::8, ::8], np.full((6, 5, 3), picture.getpixel((0, 0))), atol=8)
        np.testing.assert_allclose(frame[-1, -1], picture.getpixel((0, 0)), atol=8)
    assert [file.name for file in path.parent.iterdir()] == ["ages.mp4"]


def test_gif_goes_forward_and_back_for_ever(tmp_path: Path):
    shown = pictures(3)
    path = save_video(shown, tmp_path / "ages.gif", 10)
    frames = gif_frames(path)
    assert len(frames) == 4
    for frame, index in zip(frames, [0, 1, 2, 1], strict=True):
        np.testing.assert_allclose(frame, np.asarray(shown[index]), atol=4)
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        assert image.info["duration"] == 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_gif_that_fits_in_no_memory_is_refused(tmp_path: Path):
    frames = iter([Image.new("RGB", (64, 64))] * 2)
    with pytest.raises(FacegenError, match="too many for a GIF"):
        save_video(frames, tmp_path / "long.gif", 10, total=200_000)
    assert len(list(frames)) == 1
    assert not list(tmp_path.iterdir())


def test_gif_keeps_what_stands_still(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    shown = []
    for level in (0, 120, 250):
        noise[20:40, 20:40] = level
        shown.append(Image.fromarray(noise.copy()))
    frames = gif_frames(save_video(shown, tmp_path / "ages.gif", 10))
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame[:20], frames[0][:20])
    assert [int(frame[30, 30, 0]) for frame in frames] == pytest.approx([0, 120, 250, 120], abs=6)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_one_picture_of_any_mode_is_a_video(tmp_path: Path, suffix: str):
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    path = save_video([clear], tmp_path / f"one.{suffix}", 10)
    frames = mp4_frames(path)[1] if suffix == "mp4" else gif_frames(path)
    assert len(frames) == 1
    assert frames[0].min() > 250  # transparent is white


def test_a_morph_fades_and_has_the_length_it_says():
    shown = pictures(4)
    for count in (1, 2, 4):
        frames = list(morph(shown[:count], 10))
        assert len(frames) == morph_length(count, 10)
        assert frames[0].getpixel((0, 0)) == shown[0].getpixel((0, 0))
        assert frames[-1].getpixel((0, 0)) == shown[count - 1].getpixel((0, 0))
    red = [frame.getpixel((0, 0))[0] for frame in morph(shown[:2], 10)]
    assert red == sorted(red, reverse=True)
    assert len(set(red)) > 4
    assert list(morph([], 10)) == []


def test_many_ages_take_no_longer():
    assert morph_length(200, 24) <= 24 * (video.SECONDS * 1.1 + video.LAST)
    assert morph_length(10, 24) == pytest.approx(24 * (9 * video.MAX_STEP + video.LAST), rel=0.1)


def test_a_video_of_one_age_starts_from_the_face_as_it_was():
    whole = result()
    single = replace(whole, aged=whole.aged[-1:])
    frames = list(morph_strip(single, 24, tile=64))
    assert len(frames) == morph_length(2, 24) >= 24 * 1.5  # long enough to be seen
    first, last = (np.asarray(frame.crop((66, 0, 130, 64)).convert("L"), int) for frame in (frames[0], frames[-1]))
    shown = [picture.resize((64, 64)).convert("L") for picture in (single.reconstruction, single.aged[0].image)]
    assert np.abs(first - np.asarray(shown[0])).mean() < np.abs(first - np.asarray(shown[1])).mean()
    assert np.abs(last - np.asarray(shown[1])).mean() < np.abs(last - np.asarray(shown[0])).mean()


def test_a_strip_keeps_the_input_and_one_caption_beside_the_ages():
    frames = list(morph_strip(result(), 10, tile=64))
    assert len(frames) == morph_length(3, 10)
    assert len({frame.size for frame in frames}) == 1
    captions = {np.asarray(frame.crop((66, 64, 130, frame.height))).tobytes() for frame in frames}
    assert len(captions) == 3
    assert len({np.asarray(frame.crop((0, 0, 64, frame.height))).tobytes() for frame in frames}) == 1


def test_results_become_a_video_of_each_face(tmp_path: Path):
    paths = save_results([result(2), result(2)], tmp_path, "me", Output(video="gif"))
    videos = [path for path in paths if path.suffix == ".gif"]
    assert [path.name for path in videos] == ["me-face1.gif", "me-face2.gif"]
    assert len(gif_frames(videos[0])) > 3


def test_videos_of_large_photos_are_smaller(tmp_path: Path):
    taken: list[int] = []

    def photos() -> Iterator[Image.Image]:
        for index, picture in enumerate(pictures(2, (1400, 700))):
            taken.append(index)
            yield picture

    with Image.open(save_morph(photos(), tmp_path / "photo.gif")) as image:
        assert image.size == (640, 320)
    assert taken == [0, 1]


def bad_frames() -> Iterator[Image.Image]:
    yield from pictures(2)
    raise KeyboardInterrupt


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_nothing_half_written_stays(tmp_path: Path, suffix: str):
    path = tmp_path / f"ages.{suffix}"
    path.write_text("the old one")
    with pytest.raises(KeyboardInterrupt):
        save_video(bad_frames(), path, 10)
    sizes = [Image.new("RGB", (20, 20)), Image.new("RGB", (20, 22))]
    assert_refused("frame 2 of the video is (20, 22)", save_video, sizes, path, 10)
    assert_refused("at least one picture", save_video, [], path, 10)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "fps", "reason"),
    [
        ("a.avi", 10, "a video is .mp4 or .gif, not .avi"),
        ("a", 10, "not without a suffix"),
        ("a.gif", 0, "more than 0 frames per second"),
        ("a.mp4", float("nan"), "more than 0 frames per second"),
    ],
)
def test_wrong_arguments(tmp_path: Path, name: str, fps: float, reason: str):
    with pytest.raises(FacegenError, match=reason):
        save_video(pictures(1), tmp_path / name, fps)
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert_refused('pip install "facegen[video]"; or make a GIF', check_video, "ages.mp4")
    check_video("ages.GIF")
    save_video(pictures(1), tmp_path / "ages.gif", 10)


def test_what_the_encoder_complains_of_is_said_below_the_bar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'No space left on device' >&2\necho 'Nothing was written' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(video, "_encoder", lambda: str(program))
    with pytest.raises(FacegenError) as told:  # which is said while it is held
        save_video(pictures(4, (400, 400)), tmp_path / "ages.mp4", 10, progress=True)
    assert "ages.mp4: the video encoder failed: No space left on device" in str(told.value)
    assert capsys.readouterr().err.endswith("\n")
    assert not (tmp_path / "ages.mp4").exists()


def test_importing_needs_no_torch():
    code = "import sys, facegen.aging.video, facegen.aging.paste; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("folder", ["-x", "concat:a", "http:", "%d", "|x", "pipe:1"])
@pytest.mark.skipif(os.name != "posix", reason="names that Windows does not have")
def test_a_name_is_neither_an_option_nor_an_address(tmp_path, monkeypatch, face, folder):
    monkeypatch.chdir(tmp_path)
    path = save_video([face, face], Path(folder) / "-%d.mp4", 12)
    assert mp4_frames(tmp_path / path)[1]
    assert [file.name for file in (tmp_path / folder).iterdir()] == ["-%d.mp4"]
