"""The weights that come with the package."""

from __future__ import annotations

from pathlib import Path

PRETRAINED = Path(__file__).parents[1] / "pretrained"
OPTIONS = {
    "generator": "--generator",
    "encoder": "--encoder",
    "age": "--age-estimator",
    "age_judge": "--age-judge",
}


def shipped_file(name: str) -> Path:
    """The file of `generator`, `encoder`, `age` or `age_judge`; FileNotFoundError where the installation lacks it."""
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: these weights should have come with facegen; install it again, or pass {OPTIONS[name]} FILE"
        )
    return path
