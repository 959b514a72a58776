"""Photos that visitors can try, all of them in the public domain."""

from __future__ import annotations

from pathlib import Path


def example_photos() -> list[Path]:
    """Paths of portraits that come with this package, and of matplotlib's."""
    from matplotlib.cbook import get_sample_data

    hopper = Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return [hopper, *sorted((Path(__file__).parent / "examples").glob("*.jpg"))]
