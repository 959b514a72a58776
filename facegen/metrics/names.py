"""What a metric's name asks for: `fid50k_full`, `kid5k`, `pr50k3_full`, `is10k`, `ppl2_wend`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from facegen.errors import FacegenError

DEFAULT_PATHS = 50_000  # of ppl, whose names usually say no number
EXAMPLES = "fid50k_full, kid50k_full, pr50k3_full, is50k, ppl2_wend"
_NAME = re.compile(
    r"(fid|kid|is)(\d+)(k?)(_full)?"
    r"|(pr)(\d+)(k?)([1-9])(_full)?"  # without a k the last digit is the neighbors: pr5003 is 500 pictures, 3
    r"|(ppl2_wend|ppl_[zw](?:end|full))(?:(\d+)(k?))?"
)


@dataclass(frozen=True)
class Paths:
    """Paths between two latents.

    Attributes:
        space: `w`, or `z`: there they follow the sphere.
        ends: Steps start at the beginning of each path, otherwise anywhere on it.
        crop: Look at the middle of the pictures alone, where faces of FFHQ are.
    """

    space: str = "w"
    ends: bool = True
    crop: bool = False


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: As it was asked for.
        kind: `fid`, `kid`, `pr`, `is` or `ppl`.
        images: Generated pictures (`ppl`: pairs of them).
        full: Compare with all real pictures; otherwise with at most `images` of them.
        neighbors: How many of them define the manifold of `pr`.
        paths: Which paths `ppl` measures.
    """

    name: str
    kind: str
    images: int
    full: bool = False
    neighbors: int = 0
    paths: Paths | None = None

    @property
    def needs_real(self) -> bool:
        """Whether real pictures take part."""
        return self.kind in {"fid", "kid", "pr"}

    @property
    def results(self) -> list[str]:
        """The names of its numbers, as the StyleGAN family calls them."""
        suffixes = {"pr": ["_precision", "_recall"], "is": ["_mean", "_std"]}.get(self.kind, [""])
        return [self.name + suffix for suffix in suffixes]


def parse_metrics(names: str | Iterable[str]) -> list[Metric]:
    """Read names of metrics, separated by commas; twice the same counts once, `none` and nothing are no metric.

    Raises:
        FacegenError: an unknown name, with examples.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    wanted = dict.fromkeys(part.strip() for part in parts)
    return [parse_metric(name) for name in wanted if name.lower() not in ("", "none")]


def parse_metric(name: str) -> Metric:
    """Read one name: kind, number of pictures (`k` is thousands), of `pr` the neighbors, `_full` for all reals.

    `ppl` has a number of pictures last, if any: `ppl_zfull5k`.

    Example:
        >>> parse_metric("pr50k3_full")
        Metric(name='pr50k3_full', kind='pr', images=50000, full=True, neighbors=3, paths=None)

    Raises:
        FacegenError: it is no name of a metric.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise FacegenError(
            f"unknown metric {name!r}; names are like {EXAMPLES}, with any number of pictures (fid5k_full)"
        )
    paths = None
    if found[1]:
        kind, number, thousands, near, full = found[1], found[2], found[3], 0, bool(found[4])
    elif found[5]:
        kind, number, thousands, near, full = "pr", found[6], found[7], int(found[8]), bool(found[9])
    else:
        kind, number, thousands, near, full = "ppl", found[11] or str(DEFAULT_PATHS), found[12], 0, False
        paths = Paths("z" if "_z" in name else "w", ends="end" in name, crop=not name.startswith("ppl2"))
    if kind == "is" and full:
        raise FacegenError(f"{name!r}: the inception score uses no real pictures; leave out _full")
    images = int(number) * (1000 if thousands else 1)
    least = {"pr": near + 1}.get(kind, 2)
    if not least <= images <= 10_000_000:
        raise FacegenError(f"{name!r} means {images} pictures: give {least} to 10000k")
    return Metric(name, kind, images, full, near, paths)
