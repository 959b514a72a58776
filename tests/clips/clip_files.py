"""Clips made of one photo: a face that stands still or moves, with noise as of a camera; as files of many kinds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (320, 240)
RATE = 25


def moving(hopper: Image.Image, count: int, *, noise: float = 1.0, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """The photo panning, zooming and turning."""
    frames = []
    random = np.random.default_rng(0)
    for number in range(count):
        time = number / RATE
        turned = hopper.rotate(6 * np.sin(2 * time), Image.Resampling.BICUBIC, center=(260, 260))
        zoom = 2.4 * (1 + 0.1 * np.sin(3 * time))  # pixels of the photo in one of the frame
        left, top = 260 - zoom * size[0] / 2 + 80 * np.sin(4 * time), 260 - zoom * size[1] / 2
        matrix = (zoom, 0, left, 0, zoom, top)
        frame = turned.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor="gray")
        frames.append(noisy(frame, noise, random))
    return frames


def still(hopper: Image.Image, count: int, *, noise: float = 1.0) -> list[Image.Image]:
    """The photo without any motion."""
    random = np.random.default_rng(0)
    return [noisy(moving(hopper, 1, noise=0)[0], noise, random) for _ in range(count)]


def noisy(picture: Image.Image, noise: float, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, dtype=np.float32)
    return Image.fromarray((pixels + random.normal(0, noise, pixels.shape)).round().clip(0, 255).astype(np.uint8))


def write_animation(path: Path, frames: Sequence[Image.Image], duration: int = 40, **options: Any) -> Path:
    if path.suffix == ".webp":
        options.setdefault("lossless", True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, **options)
    return path


def read_animation(path: Path) -> tuple[np.ndarray, list[int]]:
    """The frames of an animated picture, uint8 `[N, H, W, 3]`, and how many milliseconds each is shown."""
    with Image.open(path) as image:
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
    return np.stack(frames), durations


def write_video(
    path: Path,
    frames: Sequence[Image.Image],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    sound: str | None = "aac",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    **colors: int,
) -> Path:
    """Write a video, with a tone.

    Args:
        times: of each frame, in thousandths of a second.
        colors: what the encoder is told of them.
    """
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, layout
        for name, value in colors.items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        tone = file.add_stream(sound, rate=48000) if sound else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(picture)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if tone is not None:
            for start in range(0, 48000 * len(frames) // RATE, 960):
                wave = (8000 * np.sin(np.arange(start, start + 960) / 20)).astype(np.int16)[None]
                part = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
                file.mux(tone.encode(part))
            file.mux(tone.encode(None))
    return path


def read_video(path: Path) -> tuple[np.ndarray, list[float]]:
    """The frames of a video as they are stored, uint8 `[N, H, W, 3]`, and when each is shown, in seconds."""
    import av

    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), [float(frame.time) for frame in frames]


def sound_of(path: Path) -> list[bytes]:
    """The packets of a video's sound."""
    import av

    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.size]
