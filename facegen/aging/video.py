"""Videos of a face going through its ages: mp4 or GIF.

GIF needs nothing but Pillow. mp4 needs the package imageio-ffmpeg, which brings the program that encodes it along.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facegen.aging.edit import VIDEO_SUFFIXES
from facegen.errors import FacegenError
from facegen.figures.grids import GAP, age_strip
from facegen.files import atomic_path
from facegen.images import to_rgb
from facegen.photos.mark import Mark, mark_mp4
from facegen.text import shown

if TYPE_CHECKING:
    from facegen.aging.results import FaceResult

FPS = {".mp4": 24, ".gif": 10}  # GIFs grow to many megabytes
MAX_SIDE = {".mp4": 1280, ".gif": 640}  # for the video of a whole photo
MAX_GIF_PIXELS = 2**29  # of all frames, five bytes each while one is made: 512 frames of 1024x1024
TILE = 256  # side of a face in a strip
SECONDS = 8  # a video through many ages lasts about as long, where there is a frame for each of them,
MAX_STEP = 0.8  # and takes at most this long from one age to the next
STILL = 0.3  # share of this time in which a picture stands still
LAST = 1.0  # seconds that the last picture stands still
CRF = 18  # H.264's quality, 0 to 51, lower is better: no blocks in skin
PRESET = "veryfast"  # as clips have it: the same to the eye, and small frames are encoded as fast as they are drawn


def check_video(path: str | os.PathLike[str]) -> None:
    """Raise a FacegenError if a video cannot be written under this name; to be called before hours of work."""
    suffix = Path(path).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise FacegenError(f"{path}: a video is {' or '.join(VIDEO_SUFFIXES)}, not {suffix or 'without a suffix'}")
    if suffix == ".mp4" and (reason := why_no_mp4()):
        raise FacegenError(f"{reason}; or make a GIF")


def why_no_mp4() -> str:
    """What mp4 needs that this machine lacks, in a sentence without its end; empty where mp4 can be written."""
    try:
        _encoder()
    except FacegenError as error:
        return str(error)
    return ""


def save_video(
    frames: Iterable[Image.Image],
    path: str | os.PathLike[str],
    fps: float,
    *,
    total: int | None = None,
    progress: bool = False,
    mark: Mark | None = None,
    bounces: bool = True,
) -> Path:
    """Write pictures of one size as a video, in the format of the path's suffix, atomically; return the path.

    An mp4 (H.264, 4:2:0, which every player shows) ends with the last frame; its sides are made even by repeating the
    last row or column. A GIF loops.

    Args:
        frames: Read one by one; an mp4 keeps one in memory, a GIF all.
        fps: Frames per second, above 0.
        total: How many there are, for the progress bar and the memory of a GIF; None asks `len(frames)` for the bar.
        progress: Show a bar.
        mark: The mark that says how the video was made; None writes none.
        bounces: A GIF loops forward and back; else it starts again from the first frame.

    Raises:
        FacegenError: no frames, frames of different sizes, too many frames for a GIF, another suffix, no package for
            mp4, or the encoder failed.
    """
    from tqdm import tqdm

    check_video(path)
    if not (np.isfinite(fps) and fps > 0):
        raise FacegenError(f"a video needs more than 0 frames per second, got {fps}")
    path = Path(path)
    with tqdm(frames, desc=shown(path.name, 40), total=total, unit="frame", disable=not progress) as bar:
        pictures = _same_size(bar)
        first = next(pictures, None)
        if first is None:
            raise FacegenError(f"{path}: a video needs at least one picture")
        is_gif, (width, height) = path.suffix.lower() == ".gif", first.size
        if is_gif and (total or 0) * width * height > MAX_GIF_PIXELS:
            raise FacegenError(f"{path}: {total:,} frames of {width}x{height} are too many for a GIF: make an mp4")
        with atomic_path(path) as temporary:
            if is_gif:
                _write_gif([first, *pictures], temporary, fps, mark.line if mark else "", bounces)
            else:
                _write_mp4(first, pictures, temporary, fps, path, mark.line if mark else "")
                if mark:
                    mark_mp4(temporary, mark)
    return path


def morph(pictures: Sequence[Image.Image], fps: float) -> Iterator[Image.Image]:
    """Frames that fade from each picture into the next: `morph_length` of them, made one by one.

    The closer the ages are, the more a fade is a change of the face and not two faces over one another: make many
    ages for a smooth video, which stays about as long.

    Args:
        pictures: All of one size and mode, in the order of the ages.
        fps: Frames per second.
    """
    for index, amount in _fades(len(pictures), fps):
        yield _between(pictures, index, amount)


def morph_strip(result: FaceResult, fps: float, *, tile: int = TILE) -> Iterator[Image.Image]:
    """As `morph`, for a face of a photo: the input beside the ages, with captions, which do not fade.

    To a single age it starts from the reconstruction.
    """
    pictures = [face.image for face in result.aged]
    captions = [face.caption for face in result.aged]
    if len(pictures) == 1:
        pictures, captions = [result.reconstruction, *pictures], ["reconstruction", *captions]
    # All in one, as the size of the letters and the height of their line depend on the captions.
    sheet = age_strip(
        [result.input, *pictures], [result.input_caption, *captions], tile=tile, columns=len(pictures) + 1
    )
    step = tile + GAP
    for index, amount in _fades(len(pictures), fps):
        shown = index + 1 + (amount >= 0.5)
        frame = sheet.crop((0, 0, step + tile, sheet.height))
        frame.paste(sheet.crop((shown * step, 0, shown * step + tile, sheet.height)), (step, 0))
        face = _between(pictures, index, amount)
        frame.paste(face.resize((tile, tile), Image.Resampling.LANCZOS), (step, 0))
        yield frame


def morph_length(pictures: int, fps: float) -> int:
    """How many frames `morph` makes of that many pictures."""
    return sum(1 for _ in _fades(pictures, fps))


def save_morph(
    pictures: Iterable[Image.Image],
    path: str | os.PathLike[str],
    *,
    progress: bool = False,
    mark: Mark | None = None,
) -> Path:
    """Write a video that fades through pictures, such as a photo at many ages; large pictures are shrunk.

    Pictures are read one by one, so only the small ones are in memory.
    """
    path = Path(path)
    check_video(path)
    suffix = path.suffix.lower()
    small = []
    for picture in pictures:
        copy = to_rgb(picture).copy()
        copy.thumbnail((MAX_SIDE[suffix], MAX_SIDE[suffix]), Image.Resampling.LANCZOS, reducing_gap=3.0)
        small.append(copy)
    fps = FPS[suffix]
    total = morph_length(len(small), fps)
    return save_video(morph(small, fps), path, fps, total=total, progress=progress, mark=mark)


def _fades(pictures: int, fps: float) -> Iterator[tuple[int, float]]:
    """For every frame, the picture that it starts from and how far it is to the next one: 0 up to below 1."""
    seconds = min(MAX_STEP, SECONDS / max(pictures - 1, 1))
    frames = max(1, round(seconds * fps))
    still = max(1, round(STILL * frames))
    for index in range(pictures - 1):
        for frame in range(frames):
            position = max(0, frame - still + 1) / (frames - still + 1)
            yield index, position * position * (3 - 2 * position)
    for _ in range(max(still, round(LAST * fps)) if pictures else 0):
        yield pictures - 1, 0.0


def _between(pictures: Sequence[Image.Image], index: int, amount: float) -> Image.Image:
    return Image.blend(pictures[index], pictures[index + 1], amount) if amount > 0 else pictures[index]


def _same_size(frames: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The frames as RGB, what is transparent over white."""
    size = None
    for number, frame in enumerate(frames, start=1):
        size = size or frame.size
        if frame.size != size:
            raise FacegenError(
                f"frame {number} of the video is {frame.size}, but the first is {size}: give frames of one size"
            )
        yield to_rgb(frame)


def _write_gif(frames: list[Image.Image], path: Path, fps: float, comment: str, bounces: bool) -> None:
    """All frames in one palette: what stands still is then stored once, and keeps its color.

    Without dithering, whose dots would dance from frame to frame.
    """
    palette = _palette(frames)
    table = _nearest(np.reshape(palette, (-1, 3)))
    indexed = []
    for frame in frames:
        red, green, blue = np.moveaxis(np.asarray(frame) >> 2, -1, 0)
        indexed.append(Image.fromarray(table[red, green, blue], "P"))
        indexed[-1].putpalette(palette)
    loop = indexed + indexed[-2:0:-1] if bounces else indexed
    duration = max(2, round(100 / fps)) * 10  # milliseconds; browsers slow down what is faster than 50 per second
    options = {"duration": duration, "loop": 0, "optimize": False, "comment": comment.encode()}
    loop[0].save(path, "GIF", save_all=True, append_images=loop[1:], **options)


def _palette(frames: Sequence[Image.Image], samples: int = 16, side: int = 96) -> list[int]:
    """The 256 colors (red, green, blue, red, ...) that a few frames, spread over all, have in common."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(samples, len(frames)))]
    sheet = Image.new("RGB", (side * len(chosen), side))
    for index, frame in enumerate(chosen):
        sheet.paste(frame.resize((side, side), Image.Resampling.NEAREST), (index * side, 0))
    colors = sheet.quantize(256, method=Image.Quantize.MEDIANCUT).getpalette()
    assert colors is not None  # a quantized picture has a palette
    return colors


def _nearest(colors: np.ndarray) -> np.ndarray:
    """The index of the nearest of [N, 3] colors for every color of 6 bits per channel: uint8 [64, 64, 64].

    Pillow asks for each pixel again, which takes seconds for one frame of a noisy photo.
    """
    from scipy.spatial import cKDTree

    levels = np.arange(64) * 4 + 1.5
    every = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    different, first = np.unique(colors, axis=0, return_index=True)  # a tree of many equal points is slow
    return first[cKDTree(different).query(every)[1]].astype(np.uint8)


def _write_mp4(
    first: Image.Image, others: Iterable[Image.Image], path: Path, fps: float, name: Path, comment: str
) -> None:
    width, height = first.size
    sides = ((0, height % 2), (0, width % 2), (0, 0))  # 4:2:0 has one color for two by two pixels
    command = [_encoder(), "-y", "-loglevel", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width + width % 2}x{height + height % 2}"]
    command += ["-r", f"{fps:.6g}", "-i", "pipe:0", "-an", "-c:v", "libx264", "-preset", PRESET]
    command += ["-crf", str(CRF), "-pix_fmt", "yuv420p"]
    # Colors as players take them to be for large videos, and said so for the small ones.
    command += ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    command += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    command += ["-metadata", f"comment={comment}"]  # an empty one is none
    # The index in front lets browsers start at once; the temporary name says no format. Without `file:`, a folder
    # called `-x` would be an option, and `concat:` or `http:` an address.
    command += ["-movflags", "+faststart", "-f", "mp4", f"file:{path}"]
    with TemporaryFile() as complaints:
        encoder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints, start_new_session=True
        )  # in a session of its own, as Ctrl-C is ours to handle
        assert encoder.stdin is not None  # a pipe
        try:
            for frame in chain([first], others):
                even = np.pad(np.asarray(frame), sides, mode="edge") if any(map(any, sides)) else frame
                encoder.stdin.write(even.tobytes())
            encoder.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, and says why
        except BaseException:
            encoder.kill()
            raise
        finally:
            encoder.wait()
        if encoder.returncode != 0:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines() or [str(encoder.returncode)]
            reason = next((line for line in said if "No space left" in line), said[-1])  # others follow from it
            raise FacegenError(f"{name}: the video encoder failed: {reason}")


def _encoder() -> str:
    """The ffmpeg program that imageio-ffmpeg brings along."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise FacegenError('mp4 needs imageio-ffmpeg: pip install "facegen[video]"') from error
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:  # a platform that it brings none for
        raise FacegenError(f"mp4 needs ffmpeg: {str(error).splitlines()[0]}") from error
