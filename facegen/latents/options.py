"""How latents become pictures, as the commands' options; no torch here, so that `--help` is instant."""

from __future__ import annotations

import re
from dataclasses import dataclass

from facegen.errors import FacegenError
from facegen.options import PSI_NAMES, Options, option
from facegen.text import shorten

NOISE_MODES = ("const", "random", "none")
CENTERS = ("class", "global")
ORDERS = ("sefa", "fork")
SPACES = ("w", "z")
SCALE_TYPES = ("pad", "padside", "symm", "symmside")


def parse_size(text: str) -> tuple[int, int]:
    """Read a width and a height, `1920-1080` or `1920x1080`; a FacegenError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[-xX]\s*(\d{1,6})\s*", text)
    if match is None:
        raise FacegenError(f"{shorten(text, 40)!r} is no size: give width and height, as in 1920-1080")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class TruncationOptions(Options):
    """How far faces are drawn toward a mean of w (Karras et al. 2019, appendix B)."""

    trunc: float = option(
        1.0, "1 leaves faces as they are, 0 gives the mean face, below 0 the opposite.", metavar="PSI", also=PSI_NAMES
    )
    trunc_cutoff: int | None = option(None, "Truncate only this many w, the first ones.", min=0, unset="all")
    trunc_center: str = option(
        "class",
        "Draw a face toward the mean of its own class, or toward the one mean of all classes, as the ancestors do.",
        choices=CENTERS,
    )


@dataclass(frozen=True)
class DrawingOptions(Options):
    """How pictures are drawn from w."""

    noise_mode: str = option("const", "Noise: stored with the weights, drawn anew, or none.", choices=NOISE_MODES)
    noise_seed: int = option(0, "Seeds the noise that is drawn.", min=0)
    size: tuple[int, int] | None = option(
        None, "Width and height of a picture.", metavar="W-H", unset="the network's", parse=parse_size
    )
    scale_type: str = option(
        "pad",
        "A larger size repeats what lies within the network's own (pad) or mirrors it (symm), on both sides of each "
        "direction, or only at the right and the bottom (side).",
        choices=SCALE_TYPES,
    )
    batch: int = option(8, "Pictures drawn at once.", min=1)
    fp32: bool = option(False, "Compute in float32 on a GPU, too: some networks overflow in float16.", flag=True)


@dataclass(frozen=True)
class VideoOptions(Options):
    """What becomes of the frames of a walk."""

    video: str = option("mp4", "The kind of video; none writes frames alone.", choices=("mp4", "gif", "none"))
    fps: float = option(24.0, "Frames per second.", above=0, max=1000)
    keep_frames: bool = option(True, "Also write every frame as frames/frame0000.png, ....")


@dataclass(frozen=True)
class MovingOptions(Options):
    """How faces are moved along directions."""

    degree: float = option(2.0, above=0, command=False)
    layers: str | None = option(
        None,
        "Only these w move: coarse, middle, fine, or as in 0-3,7.",
        metavar="LAYERS",
        unset="those that the directions were found for",
    )
    space: str = option(
        "w", "Where faces move: in w, or, as in dvschultz's fork, in z, which is mapped to w afterward.", choices=SPACES
    )
    vid_increment: float = option(0.1, "How far the face moves from one frame of a video to the next.", above=0)
    fps: float = option(24.0, "Frames per second.", above=0, max=1000)
