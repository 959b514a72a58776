"""What needs no PyAV; PNG and lossless frames show what was done to the bit."""

from __future__ import annotations

from pathlib import Path

import clip_files as clips
import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from facegen.aging.edit import Edit
from facegen.clips import animation, is_clip
from facegen.clips import frames as bounds
from facegen.faces.find import find_faces


def around_face(picture: Image.Image, factor: float) -> tuple[slice, slice]:
    """Rows and columns around a face, as a factor of its box."""
    left, top, right, bottom = find_faces(picture)[0].box
    middle, half = ((left + right) / 2, (top + bottom) / 2), factor * max(right - left, bottom - top) / 2
    return slice(int(middle[1] - half), int(middle[1] + half)), slice(int(middle[0] - half), int(middle[0] + half))


def changes_over_time(frames: np.ndarray) -> float:
    return float(np.sqrt(np.square(np.diff(frames.astype(np.float32), axis=0)).mean()))


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_a_still_face_does_not_flicker(age, tmp_path: Path, hopper: Image.Image, noise: float):
    frames = clips.still(hopper, 15, noise=noise)
    (path,) = age(clips.write_animation(tmp_path / "still.png", frames), 20)
    before, durations = clips.read_animation(tmp_path / "still.png")
    after, new_durations = clips.read_animation(path)
    assert path.name == "still-age20.png"
    assert new_durations == durations
    inside, outside = (slice(None), *around_face(frames[0], 0.6)), np.ones(before.shape[1:3], dtype=bool)
    outside[around_face(frames[0], 1.8)] = False
    np.testing.assert_array_equal(after[:, outside], before[:, outside])
    assert np.abs(after[inside].astype(int) - before[inside]).mean() > 5
    assert changes_over_time(after[inside]) < 1.2 * changes_over_time(before[inside])


def test_a_gif_keeps_its_colors_outside_of_the_face(age, tmp_path: Path, hopper: Image.Image):
    frames = [frame.quantize(200) for frame in clips.moving(hopper, 8, noise=0)]
    source = clips.write_animation(tmp_path / "clip.gif", frames, duration=80, loop=3, disposal=1)
    (path,) = age(source, 20)
    (before, durations), (after, new_durations) = clips.read_animation(source), clips.read_animation(path)
    assert path.suffix == ".gif"
    assert new_durations == durations
    with Image.open(path) as gif:
        assert gif.info["loop"] == 3
        assert b"shown at age 20" in gif.info["comment"]
    outside = np.ones(before.shape[1:3], dtype=bool)
    outside[around_face(Image.fromarray(before[0]), 2.2)] = False
    np.testing.assert_array_equal(after[:, outside], before[:, outside])
    inside = (slice(None), *around_face(Image.fromarray(before[0]), 0.5))
    assert np.abs(after[inside].astype(int) - before[inside]).mean() > 5


def test_what_is_transparent_in_a_gif_stays_so(age, tmp_path: Path, hopper: Image.Image):
    frames = [frame.convert("RGBA") for frame in clips.moving(hopper, 4, noise=0)]
    for number, frame in enumerate(frames):
        frame.paste((0, 0, 0, 0), (0, 0, 20 + 5 * (number % 3), 40))
    source = clips.write_animation(tmp_path / "clip.gif", frames, duration=100, disposal=2)
    (path,) = age(source, 20)
    with Image.open(source) as before, Image.open(path) as after:
        assert after.n_frames == before.n_frames == 4
        for number in range(4):
            before.seek(number)
            after.seek(number)
            alpha, new_alpha = (np.asarray(image.convert("RGBA"))[..., 3] for image in (before, after))
            np.testing.assert_array_equal(new_alpha, alpha)
            assert (alpha == 0).sum() >= 800


def test_webp_stays_webp(age, tmp_path: Path, hopper: Image.Image):
    source = clips.write_animation(tmp_path / "clip.webp", clips.moving(hopper, 4), duration=50)
    (path,) = age(source, 70.5)
    frames, durations = clips.read_animation(path)
    assert path.name == "clip-age70.5.webp"
    assert (len(frames), durations) == (4, [50] * 4)


def test_only_animated_pictures_are_clips(tmp_path: Path, hopper: Image.Image):
    for suffix in ("gif", "png", "webp", "jpg"):
        hopper.resize((64, 75)).save(tmp_path / f"photo.{suffix}")
        assert not is_clip(tmp_path / f"photo.{suffix}")
    (tmp_path / "damaged.gif").write_bytes(b"GIF89a")
    assert not is_clip(tmp_path / "damaged.gif")
    assert not is_clip(tmp_path / "missing.gif")
    assert is_clip(clips.write_animation(tmp_path / "clip.gif", clips.moving(hopper, 2)))
    assert is_clip(tmp_path / "missing.MOV")


def test_bad_animations_are_refused(age, tmp_path: Path, hopper: Image.Image, landscape: Image.Image, monkeypatch):
    source = clips.write_animation(tmp_path / "clip.gif", clips.moving(hopper, 6))
    whole = source.read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) // 2])
    assert_refused("cannot decode", lambda: age(tmp_path / "cut.gif"))
    empty = clips.write_animation(tmp_path / "empty.gif", [landscape, landscape.rotate(90)])
    assert_refused("no face found", lambda: age(empty))
    assert_refused("cannot be refined", lambda: age(source, edit=Edit(refine=10)))
    assert_refused("one input age", lambda: age(source, input_age=[30, 40]))
    monkeypatch.setattr(animation, "MAX_MEMORY", 100_000)
    assert_refused("are too many", lambda: age(source))
    monkeypatch.setattr(bounds, "MAX_PIXELS", 1000)
    assert_refused("make them smaller", lambda: age(source))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_one_frame_can_be_written_alone(tmp_path: Path, hopper: Image.Image, suffix: str):
    """As after an early Ctrl-C."""
    clip = animation.Animation(clips.write_animation(tmp_path / f"clip{suffix}", clips.moving(hopper, 3)))
    with clip.writing(tmp_path / f"one{suffix}") as add:
        first = next(clip.frames())
        add(first, first.picture)
    with Image.open(tmp_path / f"one{suffix}") as one:
        assert one.convert("RGB").size == clips.SIZE
