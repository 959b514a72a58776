"""Where the landmarks sit in the pictures of an archive, measured without keeping PyTorch in memory for it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from facegen.parallel import run_in_child

if TYPE_CHECKING:
    from facegen.faces.template import AlignmentTemplate


def measure_alignment(pngs: Sequence[bytes], *, progress: bool) -> AlignmentTemplate | None:
    """Return the template of aligned pictures, given as PNG files; None when they show no faces.

    PyTorch and MTCNN take 0.9 GB, as much as all else about half a million pictures: unless the process has PyTorch
    anyway, another one measures, and its memory comes back.
    """
    if "torch" in sys.modules:
        points = _measure(pngs, progress)
    else:
        lengths = json.dumps([progress, [len(png) for png in pngs]])
        child = run_in_child(_child, lengths, input=b"".join(pngs), check=True)
        points = json.loads(child.stdout)
    if points is None:
        return None
    from facegen.faces.template import AlignmentTemplate

    return AlignmentTemplate.from_json(points)


def _child() -> None:
    """What the other process does: read PNGs, end to end, from standard input; write the points as JSON."""
    progress, lengths = json.loads(sys.argv[1])
    print(json.dumps(_measure([sys.stdin.buffer.read(length) for length in lengths], progress)))


def _measure(pngs: Sequence[bytes], progress: bool) -> list[list[float]] | None:
    from facegen.faces.align import measure_template

    template = measure_template([Image.open(io.BytesIO(png)) for png in pngs], progress=progress)
    return template.to_json() if template else None
