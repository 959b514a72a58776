"""Videos, written by PyAV (FFmpeg): H.264 in mp4, the sound of the source beside it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

CRF = 18  # H.264's quality, 0 to 51, lower is better: no blocks in skin
PRESET = "veryfast"
RGB, BT709, BT601 = 0, 1, 5  # of what ITU-T H.273 counts
LIMITED = 1  # black is 16 and white is 235, in FFmpeg's numbers


class Colors(NamedTuple):
    """What a video says of its colors, in the numbers of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int


class Mp4:
    """The pictures of a video that is being written.

    Args:
        target: open for writing.
        base: seconds that a tick takes.
        rate: pictures per second, on average.
    """

    def __init__(self, target: OutputContainer, base: Fraction, rate: Fraction) -> None:
        self._target, self._base, self._rate = target, base, rate
        self._stream: VideoStream = target.add_stream("libx264", rate=rate, options={"crf": str(CRF), "preset": PRESET})

    def add(self, picture: Image.Image, ticks: int, duration: int, colors: Colors) -> None:
        """Add a picture of mode RGB; the first one decides the size, whose sides are made even by repeating an edge."""
        import av

        pixels = np.asarray(picture)
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        encoder = self._stream.codec_context
        if not encoder.is_open:
            encoder.height, encoder.width = pixels.shape[:2]
            encoder.pix_fmt, encoder.time_base = "yuv420p", self._base
            encoder.colorspace = colors.matrix
            encoder.color_primaries, encoder.color_trc, encoder.color_range = colors.primaries, colors.transfer, LIMITED
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=colors.matrix, dst_color_range=LIMITED)
        frame.pts, frame.time_base, frame.duration = ticks, self._base, duration
        self._target.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._target.mux(self._stream.encode(None))


class Sound:
    """The sound of a source, on its way into a video that is being written.

    Args:
        target: open for writing; nothing may be written yet.
        source: open for reading; nothing else may be read from it.
        start: seconds of the source that the video begins at.

    Attributes:
        left_out: the kinds of sound for which there is no place in the target.
    """

    def __init__(self, target: OutputContainer, source: InputContainer, start: Fraction) -> None:
        self._target, self._start = target, start
        self._streams, self.left_out = {}, list[str]()
        for stream in source.streams.audio:
            if stream.codec_context is None:
                self.left_out.append("unknown")
                continue
            try:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            except ValueError:
                self.left_out.append(stream.codec_context.name)
        chosen = [stream for stream in source.streams.audio if stream.index in self._streams]
        self._packets = _packets(source, chosen) if chosen else iter(())
        self._next = next(self._packets, None)

    def copy(self, until: float) -> None:
        """Write what begins before a time in seconds."""
        while self._next is not None and float((self._next.dts or 0) * self._next.time_base - self._start) < until:
            packet = self._next
            ahead = round(self._start / packet.time_base)
            packet.dts = None if packet.dts is None else packet.dts - ahead
            packet.pts = None if packet.pts is None else packet.pts - ahead
            packet.stream = self._streams[packet.stream_index]
            self._target.mux(packet)
            self._next = next(self._packets, None)


def _packets(source: InputContainer, streams: Sequence) -> Iterator[Packet]:
    """As far as they can be read: the pictures say it where a file is damaged."""
    import av

    try:
        for packet in source.demux(streams):
            if packet.dts is not None:  # else it is the end of a stream
                yield packet
    except av.error.FFmpegError:
        return
