"""The options of `facegen evaluate`. `--help` needs no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facegen.aging.edit import parse_ages
from facegen.options import Options, option


@dataclass(frozen=True)
class EvaluationOptions(Options):
    """How systems are evaluated, and where the judges' weights are (see `facegen.evaluation.judges`).

    Weights that are not given are downloaded if possible; otherwise their numbers are left out, and the report says so.
    """

    ages: Sequence[float] | None = option(
        None, "Targets: 5,25,65 or 5:90:5.", metavar="YEARS", parse=parse_ages, unset="every age group"
    )
    hide_ages: bool = option(False, "Do not tell the systems how old the faces are; they must estimate it.", flag=True)
    photos_limit: int | None = option(None, "Use only N faces, spread evenly over the age groups.", metavar="N", min=1)
    seed: int = option(0, "Seed for all random choices.", min=0)
    age_estimator: str | None = option(None, "Age estimator for the systems (not for the judge).", metavar="FILE")
    age_judge: str | None = option(None, "Age judge to use instead of the one in the package.", metavar="FILE")
    id_judge: str | None = option(None, "Identity judge.", metavar="dlib|vggface2|FILE|none", unset="dlib if installed")
    inception: str | None = option(None, "Inception weights for FID and KID.", metavar="FILE", unset="downloaded")
    vgg: str | None = option(None, "VGG16 weights for LPIPS.", metavar="FILE", unset="downloaded")
    lpips: str | None = option(None, "LPIPS weights.", metavar="FILE", unset="downloaded")
