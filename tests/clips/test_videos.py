"""Videos, which need PyAV."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import clip_files as clips
import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from facegen.clips import frames as bounds
from facegen.clips import video

av = pytest.importorskip("av")


def test_a_video_is_aged_and_keeps_its_sound_and_times(age, tmp_path: Path, hopper: Image.Image):
    frames = clips.moving(hopper, 10)
    times = [0, 40, 80, 160, 170, 200, 300, 340, 380, 420]
    source = clips.write_video(tmp_path / "clip.mp4", frames, times=times)
    (path,) = age(source, 20)
    (before, shown), (after, new_shown) = clips.read_video(source), clips.read_video(path)
    assert path.name == "clip-age20.mp4"
    assert after.shape == before.shape
    np.testing.assert_allclose(new_shown, shown, atol=0.001)
    assert clips.sound_of(path) == clips.sound_of(source)
    with av.open(str(path)) as file:
        assert "face shown at age 20" in file.metadata["comment"]
        assert (file.streams.video[0].codec_context.name, file.streams.video[0].codec_context.pix_fmt) == (
            "h264",
            "yuv420p",
        )
    assert b"compositeWithTrainedAlgorithmicMedia" in path.read_bytes()
    inside, border = (slice(None), slice(80, 160), slice(120, 200)), (slice(None), slice(0, 30))
    assert np.abs(after[inside].astype(int) - before[inside]).mean() > 4
    assert np.abs(after[border].astype(int) - before[border]).mean() < 2


def test_several_ages_are_several_videos(age, tmp_path: Path, hopper: Image.Image):
    paths = age(clips.write_video(tmp_path / "clip.mkv", clips.moving(hopper, 3), sound=None), 20, 60)
    assert [path.name for path in paths] == ["clip-age20.mp4", "clip-age60.mp4"]
    assert all(len(clips.read_video(path)[0]) == 3 for path in paths)


@pytest.mark.parametrize(
    ("name", "codec", "layout", "sound"),
    [
        ("clip.webm", "libvpx-vp9", "yuv420p", "libopus"),
        ("clip.avi", "mpeg4", "yuv420p", "libmp3lame"),
        ("clip.mov", "mjpeg", "yuvj420p", "pcm_s16le"),
        ("clip.ts", "libx264", "yuv420p", "aac"),
        ("clip.mkv", "libx264", "yuv420p10le", "aac"),
        ("alpha.mov", "qtrle", "argb", None),
        ("colors.mkv", "libx264rgb", "rgb24", None),
    ],
)
def test_every_kind_of_video(age, tmp_path: Path, hopper: Image.Image, name: str, codec: str, layout: str, sound):
    frames = clips.moving(hopper, 4)
    source = clips.write_video(tmp_path / name, frames, codec=codec, layout=layout, sound=sound)
    (path,) = age(source, 75)
    (pixels, times), (before, shown) = clips.read_video(path), clips.read_video(source)
    np.testing.assert_allclose(times, np.array(shown) - shown[0], atol=0.001 if sound is None else 0.025)
    assert np.abs(pixels[:, :30].astype(int) - before[:, :30]).mean() < 3.5
    if sound is not None:
        packets, whole = clips.sound_of(path), clips.sound_of(source)
        if sound == "pcm_s16le":  # has no packets
            packets, whole = [b"".join(packets)], [b"".join(whole)]
        # Packets of MPEG-TS begin with a header that mp4 has elsewhere.
        assert all(old.endswith(new) for new, old in zip(packets, whole, strict=True))


def test_a_turned_video_comes_out_upright(age, tmp_path: Path, hopper: Image.Image):
    frames = clips.moving(hopper, 3, noise=0)
    lying = [frame.transpose(Image.Transpose.ROTATE_90) for frame in frames]
    source = clips.write_video(tmp_path / "clip.mp4", lying, sound=None)
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, section 8.3.2: players turn it by 90 degrees, clockwise
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 240 << 16, 0, 1 << 30)
    source.write_bytes(content)
    (path,) = age(source, 75)
    with av.open(str(path)) as file:
        (first, *_) = file.decode(video=0)
        assert (first.width, first.height, first.rotation) == (*frames[0].size, 0)
        assert np.abs(first.to_ndarray(format="rgb24").astype(int) - np.asarray(frames[0])).mean() < 5


def test_hdr_becomes_sdr(age, tmp_path: Path, hopper: Image.Image, capsys):
    frames = clips.moving(hopper, 2, noise=0)
    light = (np.asarray(frames[0]) / 255.0) ** 2.4 * 0.7 * 203 / 10_000  # of paper, in PQ's full scale
    wide = light @ np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]).T
    power = wide**0.1593017578125
    levels = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    picture = Image.fromarray((levels * 255).round().astype(np.uint8))
    colors = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    source = clips.write_video(tmp_path / "clip.mkv", [picture] * 2, layout="yuv444p10le", sound=None, **colors)
    (path,) = age(source, 75)
    with av.open(str(path)) as file:
        (first, *_) = file.decode(video=0)
        assert (first.colorspace, file.streams.video[0].codec_context.color_trc) == (1, 1)
        pixels = first.to_ndarray(format="rgb24", src_colorspace=1).astype(int)
    expected = (np.asarray(frames[0]) / 255.0) * 0.7 ** (1 / 2.4) * 255
    assert np.abs(pixels[:40] - expected[:40]).mean() < 6
    assert "HDR" in capsys.readouterr().err


def test_pixels_that_are_not_square_become_square(age, tmp_path: Path, hopper: Image.Image):
    narrow = [frame.resize((240, 240)) for frame in clips.moving(hopper, 2)]
    source = clips.write_video(tmp_path / "clip.mkv", narrow, options={"x264-params": "sar=4/3"})
    pixels, _ = clips.read_video(age(source, 75)[0])
    assert pixels.shape == (2, 240, 320, 3)
    absurd = clips.write_video(tmp_path / "absurd.mkv", narrow, options={"x264-params": "sar=200/1"})
    assert_refused("too large", lambda: age(absurd))


def test_notes_that_are_no_text_do_not_matter(age, tmp_path: Path, hopper: Image.Image):
    source = clips.write_video(tmp_path / "clip.mp4", clips.moving(hopper, 2), sound=None)
    content = source.read_bytes()
    assert b"Lavf" in content
    source.write_bytes(content.replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert len(clips.read_video(age(source, 75)[0])[0]) == 2


def test_odd_sides_become_even(age, tmp_path: Path, hopper: Image.Image):
    frames = clips.moving(hopper, 2, size=(321, 241))
    source = clips.write_video(tmp_path / "clip.mkv", frames, layout="yuv444p")
    pixels, _ = clips.read_video(age(source, 75)[0])
    assert pixels.shape == (2, 242, 322, 3)


def test_a_video_of_one_frame(age, tmp_path: Path, hopper: Image.Image):
    source = clips.write_video(tmp_path / "clip.mp4", clips.moving(hopper, 1))
    assert len(clips.read_video(age(source, 75)[0])[0]) == 1


def test_what_is_damaged_in_the_middle_is_left_out(age, tmp_path: Path, hopper: Image.Image, capsys):
    source = clips.write_video(
        tmp_path / "clip.avi", clips.moving(hopper, 8), codec="mjpeg", layout="yuvj420p", sound=None
    )
    data = bytearray(source.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[4] : starts[4] + 600] = bytes(600)
    source.write_bytes(data)
    (path,) = age(source, 75)
    pixels, times = clips.read_video(path)
    assert len(pixels) == 7
    np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.12, 0.2, 0.24, 0.28], atol=0.001)
    assert "1 damaged frame left out" in capsys.readouterr().err


def test_bad_videos_are_refused(age, tmp_path: Path, hopper: Image.Image, landscape: Image.Image, monkeypatch):
    source = clips.write_video(tmp_path / "clip.mp4", clips.moving(hopper, 4))
    whole = source.read_bytes()

    def refused(name: str, content: bytes, words: str) -> None:
        (tmp_path / name).write_bytes(content)
        assert name in assert_refused(words, lambda: age(tmp_path / name))

    refused("empty.mp4", b"", "empty")
    refused("text.mp4", b"#EXTM3U\nhttp://example.org/clip.ts\n" * 20, "not a video")
    refused("cut.mp4", whole[: len(whole) // 2], "damaged")
    refused("kind.mp4", whole.replace(b"avc1", b"zzzz"), "unknown format")
    refused("photo.mov", b"\xff\xd8\xff" + bytes(500), "not a video")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        tone = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        file.mux([*tone.encode(frame), *tone.encode(None)])
    assert_refused("no pictures", lambda: age(tmp_path / "sound.mp4"))
    assert_refused("no face", lambda: age(clips.write_video(tmp_path / "land.mp4", [landscape] * 2)))
    monkeypatch.setattr(bounds, "MAX_PIXELS", 10_000)
    assert_refused("too large", lambda: age(source))
    assert not (tmp_path / "out").exists()


def test_without_pyav_a_video_says_what_to_install(age, tmp_path: Path, hopper: Image.Image, monkeypatch):
    source = clips.write_video(tmp_path / "clip.mp4", clips.moving(hopper, 1))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert_refused('pip install "facegen[video]"', lambda: age(source))


def test_ctrl_c_leaves_what_is_done(age, tmp_path: Path, hopper: Image.Image, monkeypatch, capsys):
    source = clips.write_video(tmp_path / "clip.mp4", clips.moving(hopper, 20))
    frames = video.Video.frames
    passes = []

    def interrupted(self):
        passes.append(0)
        for number, frame in enumerate(frames(self)):
            if len(passes) == 2 and number == 8:
                os.kill(os.getpid(), signal.SIGINT)
            yield frame

    monkeypatch.setattr(video.Video, "frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        age(source, 20, 60)
    path = tmp_path / "out" / "clip-age20.mp4"
    assert list(path.parent.iterdir()) == [path]
    pixels, _ = clips.read_video(path)
    assert 8 <= len(pixels) <= 10
    sound, whole = clips.sound_of(path), clips.sound_of(source)
    assert 0 < len(sound) < len(whole)
    assert sound == whole[: len(sound)]
    assert f"{path} has the first {len(pixels)} of 20 frames" in capsys.readouterr().err
