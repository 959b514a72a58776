"""How latents become pictures, as the commands' options; no torch here, so that `--help` is instant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from facegen.aging.edit import parse_ages
from facegen.errors import FacegenError
from facegen.latents.seeds import MAX_SEED, parse_seeds
from facegen.latents.walks.easing import EASINGS
from facegen.options import PSI_NAMES, Options, option
from facegen.text import shorten

NOISE_MODES = ("const", "random", "none")
CENTERS = ("class", "global")
PROCESSES = ("interpolation", "truncation", "interpolation-truncation")
LOOPS = ("circularloop", "noiseloop")
INTERPOLATIONS = ("linear", "slerp", *LOOPS)
_SLERP_NAMES = ("spherical", "sphericalinterp")
ORDERS = ("sefa", "fork")
SPACES = ("w", "z")
MAX_FRAMES = 100_000
SCALE_TYPES = ("pad", "padside", "symm", "symmside")


def parse_size(text: str) -> tuple[int, int]:
    """Read a width and a height, `1920-1080` or `1920x1080`; a FacegenError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[-xX]\s*(\d{1,6})\s*", text)
    if match is None:
        raise FacegenError(f"{shorten(text, 40)!r} is not a size: give width and height, as in 1920-1080")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class TruncationOptions(Options):
    """How far faces are drawn toward a mean of w (Karras et al. 2019, appendix B)."""

    trunc: float = option(
        1.0,
        "Truncation: 1 leaves faces unchanged, 0 gives the mean face, below 0 the opposite face.",
        metavar="PSI",
        also=PSI_NAMES,
    )
    trunc_cutoff: int | None = option(None, "Truncate only the first N layers.", min=0, unset="all")
    trunc_center: str = option(
        "class",
        "Pull faces toward the mean of their own class, or toward the mean of all classes as the original programs do.",
        choices=CENTERS,
    )


@dataclass(frozen=True)
class DrawingOptions(Options):
    """How pictures are drawn from w."""

    noise_mode: str = option(
        "const", "const: noise stored with the weights. random: new noise. none: no noise.", choices=NOISE_MODES
    )
    noise_seed: int = option(0, "Seed for --noise-mode random.", min=0)
    size: tuple[int, int] | None = option(
        None, "Width and height of the pictures.", metavar="W-H", unset="the network's", parse=parse_size
    )
    scale_type: str = option(
        "pad",
        "How to fill a larger size: repeat the border (pad) or mirror it (symm), on all sides, or only at "
        "the right and bottom (padside, symmside).",
        choices=SCALE_TYPES,
    )
    batch: int = option(8, "Number of pictures drawn at once.", min=1)
    fp32: bool = option(False, "Compute in float32 on GPUs too; some networks overflow in float16.", flag=True)


def parse_interpolation(text: str) -> str:
    """Read a kind of walk; `spherical` and `sphericalinterp` are what other programs call slerp."""
    name = text.strip().lower()
    if name not in (*INTERPOLATIONS, *_SLERP_NAMES):
        raise FacegenError(f"interpolation {text!r}: choose one of {', '.join(INTERPOLATIONS)}")
    return "slerp" if name in _SLERP_NAMES else name


def parse_way_of_ages(text: str) -> list[float]:
    """Read ages to walk through: as `parse_ages` does, but a range without a step is its two ends, in any order."""
    parts = (part.replace(":", ",") if part.count(":") == 1 else part for part in text.split(","))
    return parse_ages(",".join(parts))


@dataclass(frozen=True)
class WalkOptions(Options):
    """Which way a walk goes."""

    process: str = option(
        "interpolation",
        "interpolation: walk from face to face. truncation: change the truncation of each face. Or both at once.",
        choices=PROCESSES,
    )
    interpolation: str = option(
        "linear",
        "Straight lines (linear), great circles (slerp), a circle, or smooth noise that returns to its start.",
        choices=INTERPOLATIONS,
        metavar="|".join(INTERPOLATIONS),
        parse=parse_interpolation,
    )
    easing: str = option("linear", "How the speed changes from key to key.", choices=tuple(EASINGS))
    space: str | None = option(
        None, "Walk in z or in w.", choices=("z", "w"), unset="z; w for latents from files, which have no z"
    )
    frames: int = option(
        240, "Frames from each key to the next. For the two loops: frames in all.", min=2, max=MAX_FRAMES
    )
    loop: bool = option(False, "Return to the first key, so that the video repeats without a jump.", flag=True)
    diameter: float | None = option(
        None, "Diameter of the loops in z.", above=0, unset="2 sqrt(z_dim) for circularloop, 0.9 for noiseloop"
    )
    random_seed: int = option(0, "Seed for the place of the loops.", min=0, max=MAX_SEED)
    start: float = option(0.0, "The first truncation.", metavar="PSI")
    stop: float = option(1.0, "The last truncation, included.", metavar="PSI")
    increment: float = option(0.01, "Step of truncation from one frame to the next.", metavar="PSI")

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield self.increment != 0, "an increment of 0 never reaches the end"


@dataclass(frozen=True)
class VideoOptions(Options):
    """What becomes of the frames of a walk."""

    video: str = option(
        "auto",
        "Video format. auto: mp4, or GIF if imageio-ffmpeg is missing. none: write only frames.",
        choices=("auto", "mp4", "gif", "none"),
        alone="auto",
    )
    fps: float = option(24.0, "Frames per second.", above=0, max=1000)
    keep_frames: bool = option(True, "Also write every frame as frames/frame0000.png, ....")


@dataclass(frozen=True)
class MovingOptions(Options):
    """How faces are moved along directions."""

    degree: float = option(2.0, above=0, command=False)
    layers: str | None = option(
        None,
        "Move only these layers: coarse, middle, fine, or numbers such as 0-3,7.",
        metavar="LAYERS",
        unset="the layers that the directions were found for",
    )
    space: str = option("w", "Move faces in w, or in z before the mapping as dvschultz's fork does.", choices=SPACES)
    vid_increment: float = option(0.1, "How far the face moves from one video frame to the next.", above=0)
    fps: float = option(24.0, "Frames per second.", above=0, max=1000)


@dataclass(frozen=True)
class DigressionOptions(Options):
    """The two circles of a digression: a small one of z, and a large one of the network's constant."""

    radius_large: float = option(300.0, "Distance of the constant from the network's own.", min=0)
    radius_small: float = option(40.0, "Distance of z from the middle face.", min=0)
    step1: float = option(0.005, "Fraction of its circle that the constant moves per frame.", min=0)
    step2: float = option(0.0025, "Fraction of its circle that z moves per frame.", above=0)
    video_length: float = option(1.0, "How many times z goes around its circle.", above=0)
    seed: int = option(0, "Seed for the place of both circles.", min=0, max=MAX_SEED)
    seeds: tuple[int, ...] | None = option(
        None,
        "Three faces that define the circle of z: its center, and two that span its plane.",
        metavar="A,B,C",
        unset="three faces from --seed, the center being that seed's face",
        parse=lambda text: tuple(parse_seeds(text)),
    )

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield self.seeds is None or len(self.seeds) == 3, "seeds: a circle needs three different ones, as in 3,4,5"
        yield (
            2 <= self.frames <= MAX_FRAMES,
            f"video-length / step2 is {self.frames} frames: that should be 2 to {MAX_FRAMES:,}",
        )

    @property
    def frames(self) -> int:
        """How many pictures there are."""
        return round(self.video_length / self.step2)

    @property
    def turns(self) -> tuple[int, int]:
        """How many times z and the constant go around: whole turns, so that the video repeats without a jump."""
        turns_of_const = self.video_length * self.step1 / self.step2
        return max(1, round(self.video_length)), max(self.step1 > 0, round(turns_of_const))


@dataclass(frozen=True)
class BlendOptions(Options):
    """How two generators are blended at a split."""

    width: float = option(
        0.0, "Number of blocks in the transition, where weights are mixed; 0 is sharp.", min=0, metavar="BLOCKS"
    )
    mapping: str = option(
        "low",
        "Take the mapping network, mean w and classes from --low or from --high.",
        choices=("low", "high"),
    )
