"""Photos that visitors can try, all of them in the public domain."""

from __future__ import annotations

from pathlib import Path


def example_photos() -> dict[str, Path]:
    """Portraits that come with this package, and matplotlib's: the path of each by what it is called."""
    from matplotlib.cbook import get_sample_data

    hopper = Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    others = sorted((Path(__file__).parent / "examples").glob("*.jpg"))
    return {path.stem.replace("_", " ").title(): path for path in [hopper, *others]}
