"""The results of age transfer: the photo at each age, its faces, and facts about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from facegen.aging.change import UNDERSTOOD
from facegen.faces.template import AlignmentTemplate
from facegen.figures.grids import age_strip

if TYPE_CHECKING:
    from facegen.aging.editing import Window

# Of 2,000 faces of UTKFace, 4 % are turned further. Their reconstructions are less like them (cosine of face embeddings
# 0.14; 0.23 up to 20 degrees), and asked to be 75 they look 16 years younger, the others 9.
FROM_THE_SIDE = 35.0
CUT_OFF = 0.8  # below this share of a face inside its photo, the user is told
MOST_NAMED = 12  # faces in one line


@dataclass(frozen=True)
class AgedFace:
    """One face at another age.

    caption: the age that was asked for, or the group.
    group: the age's group.
    image: as the generator draws it; of an editor the face as it is in the photo then.
    strength: how much of its change goes into the photo, see `Edit.strength`.
    looks: the age that the face in the photo then looks; NaN where the strength was given.
    change: what the editor adds to the photo at strength 1, float16 `[W, W, 3]`, in levels, at the pixels of
        `FaceResult.window`; None where the generator has drawn.
    """

    caption: str
    age: float
    group: int
    image: Image.Image
    strength: float = 1.0
    looks: float = math.nan
    change: np.ndarray | None = None


@dataclass(frozen=True)
class FaceResult:
    """One face of a photo, and what age transfer made of it.

    All pictures have one size, the generator's; of an editor that of the face in the photo, within limits.

    box: left, top, right, bottom in pixels of the photo.
    matrix: [2, 3], pixels of the photo to pixels of the pictures (`invert_matrix` gives the way back).
    input: the face, aligned as the networks expect it.
    reconstruction: its latent decoded at `input_age`; how close it comes to the input is how far to trust the rest.
        Of an editor, which needs none, the input itself.
    input_age: in years, as given or estimated; `input_group` is its group.
    latent: what the encoder made of the input, [z_dim] or [num_ws, w_dim]; of an editor empty.
    age_is_estimated: `input_age` was not given.
    understood: 0..1, how close the reconstruction is, as `FaceChange.understood`.
    yaw: how far it is turned to the side, in degrees, see `facegen.faces.find.yaw`.
    inside: 0..1, how much of it lies inside of the photo.
    template: where its landmarks lie in `input`; None: where they should lie.
    window: what the editor saw of the photo; None where the generator has drawn.
    too_small: it has too few pixels for the editor, and stays as it is.
    """

    box: tuple[float, float, float, float]
    matrix: np.ndarray
    input: Image.Image
    reconstruction: Image.Image
    input_age: float
    input_group: int
    aged: list[AgedFace]
    latent: np.ndarray
    age_is_estimated: bool = False
    understood: float = 1.0
    yaw: float = 0.0
    inside: float = 1.0
    template: AlignmentTemplate | None = None
    window: Window | None = None
    too_small: bool = False

    @property
    def input_caption(self) -> str:
        """`input`, and how old the face looks if its age was not given: `input, looks 73`."""
        return f"input, looks {self.input_age:.0f}" if self.age_is_estimated else "input"

    def strip(self, tile: int = 160, columns: int = 12) -> Image.Image:
        """Input, reconstruction if there is one, and every age side by side, with captions; see `age_strip`."""
        pictures, captions = [self.input], [self.input_caption]
        if self.window is None:
            pictures, captions = [*pictures, self.reconstruction], [*captions, "reconstruction"]
        pictures += [face.image for face in self.aged]
        return age_strip(pictures, [*captions, *(face.caption for face in self.aged)], tile=tile, columns=columns)


class AgedPhoto(NamedTuple):
    """A photo at other ages.

    photos: the whole photo at each age, in its own size, with all its faces changed; in the order of the ages.
    faces: what is known of each face, largest first, with the faces as the generator draws them.
    """

    photos: list[Image.Image]
    faces: list[FaceResult]


def found_in_words(results: Sequence[FaceResult]) -> str:
    """`looks 73`, `3 faces look 41, 38, 7 (largest first)`, `60 faces look 5 to 83`, `3 faces`; empty for one face
    whose age was given."""
    ages = [result.input_age for result in results if result.age_is_estimated]
    listed = ", ".join(f"{age:.0f}" for age in ages)
    if len(results) == 1:
        return listed and f"looks {listed}"
    if not ages:
        return f"{len(results)} faces"
    if len(ages) > MOST_NAMED:
        return f"{len(results)} faces look {min(ages):.0f} to {max(ages):.0f}"
    return f"{len(results)} faces look {listed} (largest first)"


def doubts_in_words(results: Sequence[FaceResult], *, pasted: bool) -> list[str]:
    """What is to be said of faces of which less is to be expected, a line for each reason.

    Args:
        results: all faces of a photo: their numbers, from 1, are those in the names of the files.
        pasted: their changes are put into the photo.
    """
    from_the_side = [abs(result.yaw) > FROM_THE_SIDE for result in results]
    cut_off = [result.inside < CUT_OFF for result in results]
    too_small = [result.too_small for result in results]
    not_understood = [pasted and result.understood < UNDERSTOOD for result in results]
    return [
        f"{_faces(chosen)} {words}"
        for chosen, words in (
            (from_the_side, "seen from the side: expect less there"),
            (cut_off, "cut off by the border of the photo: expect less there"),
            (not_understood, "not understood well: little changes there"),
            (too_small, "too small for the editor: nothing changes there"),
        )
        if any(chosen)
    ]


def _faces(chosen: Sequence[bool]) -> str:
    """`face 2 is`, `faces 2, 5 are`, `19 of 60 faces are`."""
    numbers = [str(number) for number, is_chosen in enumerate(chosen, start=1) if is_chosen]
    if len(numbers) > MOST_NAMED:
        return f"{len(numbers)} of {len(chosen)} faces are"
    return f"face {numbers[0]} is" if len(numbers) == 1 else f"faces {', '.join(numbers)} are"
