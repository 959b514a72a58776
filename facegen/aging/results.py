"""What age transfer makes of a photo: the photo at each age, and its faces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from facegen.figures.grids import age_strip


@dataclass(frozen=True)
class AgedFace:
    """One face at another age.

    caption: the age that was asked for, or the group.
    group: the age's group.
    image: as the generator draws it.
    strength: how much of its change goes into the photo, see `Edit.strength`.
    looks: the age that the face in the photo then looks; NaN where the strength was given.
    """

    caption: str
    age: float
    group: int
    image: Image.Image
    strength: float = 1.0
    looks: float = math.nan


@dataclass(frozen=True)
class FaceResult:
    """One face of a photo, and what age transfer made of it; all pictures have the generator's size.

    box: left, top, right, bottom in pixels of the photo.
    matrix: [2, 3], pixels of the photo to pixels of the pictures (`invert_matrix` gives the way back).
    input: the face, aligned as the networks expect it.
    reconstruction: its latent decoded at `input_age`; how close it comes to the input is how far to trust the rest.
    input_age: in years, as given or as estimated; `input_group` is its group.
    latent: what the encoder made of the input, [z_dim] or [num_ws, w_dim].
    age_is_estimated: `input_age` was not given.
    understood: 0..1, how close the reconstruction is, as `FaceChange.understood`.
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

    @property
    def input_caption(self) -> str:
        """`input`, and how old the face looks where nobody said how old it is: `input, looks 73`."""
        return f"input, looks {self.input_age:.0f}" if self.age_is_estimated else "input"

    def strip(self, tile: int = 160) -> Image.Image:
        """Input, reconstruction and every age side by side, with captions."""
        pictures = [self.input, self.reconstruction, *(face.image for face in self.aged)]
        captions = [self.input_caption, "reconstruction", *(face.caption for face in self.aged)]
        return age_strip(pictures, captions, tile=tile)


class AgedPhoto(NamedTuple):
    """A photo at other ages.

    photos: the whole photo at each age, in its own size, with all its faces changed; in the order of the ages.
    faces: what is known of each face, largest first, with the faces as the generator draws them.
    """

    photos: list[Image.Image]
    faces: list[FaceResult]
