"""Videos, read by PyAV (FFmpeg): frames as upright RGB; `mp4.py` writes them.

Only known containers are read, each told by its first bytes: FFmpeg knows others, playlists among them, that open
further files or addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from facegen.clips import frames as bounds
from facegen.clips.frames import Frame
from facegen.clips.hdr import HLG, PQ, to_sdr
from facegen.clips.mp4 import BT601, BT709, RGB, Colors, Mp4, Sound
from facegen.errors import FacegenError, one_line
from facegen.files import atomic_path
from facegen.images import to_rgb
from facegen.photos.mark import Mark, mark_mp4
from facegen.reading import open_plain

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = frozenset(
    f".{end}"
    for end in "mp4 m4v mov qt 3gp mkv webm avi mpg mpeg ts mts m2ts flv wmv asf ogv".split()  # noqa: SIM905
)
# What files of each kind have at a place near their beginning; MPEG-TS repeats its first byte.
BEGINNINGS = (
    *((4, box, "mov") for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"0&\xb2u", "asf"),
    (188, b"G", "mpegts"),
    (196, b"G", "mpegts"),
)
KEPT = ("title", "artist", "album", "date", "creation_time", "location", "copyright", "description", "comment")
MATRICES = (1, 4, 5, 6, 7, 9)  # that FFmpeg converts, as ITU-T H.273 counts them
HIGH = 720  # rows from which on colors that are not named are those of BT.709
TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


class Video:
    """A video file.

    Raises a FacegenError if it is not one, has no pictures, if frames exceed MAX_PIXELS, or if PyAV is missing.

    Attributes:
        count: number of frames if the file says it; else 0.
        notes: remarks for the user, in words; complete when all frames were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        with _opened(path) as (container, stream):
            self._base = Fraction(stream.time_base or Fraction(1, 90_000))
            self._rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            seconds = float(stream.duration * self._base) if stream.duration else (container.duration or 0) / 1e6
            self.count = stream.frames or round(seconds * self._rate)
            self._transfer = stream.codec_context.color_trc
            self._colors = Colors(BT709, stream.codec_context.color_primaries, self._transfer)  # of the result
            self._aspect = float(stream.sample_aspect_ratio or 1)  # of a pixel
            self._start = Fraction(max(container.start_time or 0, 0), 1_000_000)  # seconds

    def frames(self) -> Iterator[Frame]:
        """All frames in their order, of one size. Those that are damaged are left out, and `notes` says so."""
        size, last = None, -1
        step = max(1, round(1 / self._rate / self._base))
        for frame in self._decoded():
            if size is None and self._transfer in (PQ, HLG):
                self._colors = Colors(BT709, BT709, BT709)
                self._note("HDR: becomes SDR")
            elif size is None and frame.colorspace != RGB:
                self._colors = self._colors._replace(matrix=_matrix(frame))
            picture = self._picture(frame)
            size = size or picture.size
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling.BICUBIC)
            # The times of a damaged file may go back.
            ticks = last + step if frame.pts is None else max(frame.pts - round(self._start / self._base), last + 1)
            yield Frame(picture, ticks, float(ticks * self._base), step)
            last = ticks
        if size is None:
            raise FacegenError(f"{self.path}: none of its frames can be decoded")

    def _decoded(self) -> Iterator[VideoFrame]:
        """The frames as FFmpeg gives them."""
        import av

        damaged, ends_early = 0, False
        with _opened(self.path) as (container, stream):
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except av.error.FFmpegError:
                    ends_early = True
                    break
                try:
                    decoded = packet.decode()
                except av.error.FFmpegError:
                    damaged += 1
                    continue
                yield from decoded
        if damaged:
            self._note(f"{damaged} damaged frame{'s' * (damaged > 1)} left out")
        if ends_early:
            self._note("damaged: it ends early")

    def _note(self, words: str) -> None:
        if words not in self.notes:  # it is read twice
            self.notes.append(words)

    def _picture(self, frame: VideoFrame) -> Image.Image:
        """A frame as upright RGB of square pixels, what is transparent over white."""
        import av

        width = max(1, round(frame.width * self._aspect))
        _check_size(self.path, max(width, frame.width), frame.height)
        layout = "rgba" if any(part.is_alpha for part in frame.format.components) else "rgb24"
        try:
            pixels = frame.to_ndarray(format=layout, width=width, src_colorspace=_matrix(frame))
        except av.error.FFmpegError as error:
            raise FacegenError(f"{self.path}: its colors cannot be read ({one_line(error)})") from error
        turn = TURNS.get(int(frame.rotation) % 360)
        picture = to_rgb(Image.fromarray(pixels))
        if self._transfer in (PQ, HLG):
            picture = to_sdr(picture, self._transfer)
        return picture if turn is None else picture.transpose(turn)

    @contextmanager
    def writing(
        self, path: Path, mark: Mark | None = None, *, strip_metadata: bool = False
    ) -> Iterator[Callable[[Frame, Image.Image], None]]:
        """Give a function that takes each frame and what became of it; the mp4 is written when the block ends well.

        The sound goes along with the frames: what begins before the last one ends.
        """
        import av

        with atomic_path(path) as temporary, _opened(self.path) as (source, _):
            kept = {} if strip_metadata else {name: source.metadata[name] for name in KEPT if name in source.metadata}
            comments = [kept.get("comment", ""), mark.line if mark else ""]
            try:
                with av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"}) as target:
                    target.metadata.update(kept, comment="\n".join(filter(None, comments)))
                    pictures, sound = Mp4(target, self._base, self._rate), Sound(target, source, self._start)
                    if sound.left_out:
                        self._note(f"mp4 cannot hold sound of type {', '.join(sound.left_out)}: left out")

                    def add(frame: Frame, picture: Image.Image) -> None:
                        pictures.add(picture, frame.ticks, frame.duration, self._colors)
                        sound.copy(float((frame.ticks + frame.duration) * self._base))

                    yield add
                    pictures.finish()
            except av.error.FFmpegError as error:
                raise FacegenError(f"{path}: cannot be written ({one_line(error)})") from error
            if mark is not None:
                mark_mp4(temporary, mark)


def _matrix(frame: VideoFrame) -> int:
    """How the frame's numbers become RGB, as ITU-T H.273 counts the ways."""
    if frame.colorspace in MATRICES:
        return frame.colorspace
    return BT709 if frame.height >= HIGH else BT601


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > bounds.MAX_PIXELS:
        raise FacegenError(f"{path}: frames of {width}x{height} pixels are too large: make the video smaller")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video for reading: the file, and its first stream of pictures."""
    try:
        import av
    except ImportError:
        raise FacegenError(f'{path}: videos need pip install "facegen[video]"; or convert it to a GIF') from None
    with open_plain(path) as file:
        beginning = file.read(256)
        file.seek(0)
        kinds = [kind for place, mark, kind in BEGINNINGS if beginning[place : place + len(mark)] == mark]
        if not kinds or (kinds[0] == "mpegts" and b"G" not in (beginning[:1], beginning[4:5])):
            raise FacegenError(f"{path}: not a video in a known format" if beginning else f"{path}: empty file")
        try:
            container = av.open(file, "r", format=kinds[0], metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise FacegenError(f"{path}: a damaged video ({one_line(error)})") from error
        with container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise FacegenError(f"{path}: there are no pictures in this video")
            stream = streams[0]
            if stream.codec_context is None:
                raise FacegenError(f"{path}: the pictures in this video have an unknown format")
            _check_size(path, stream.codec_context.width, stream.codec_context.height)
            yield container, stream
