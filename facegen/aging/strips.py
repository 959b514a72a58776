"""Strips of photos: one face at every age, cut from whole photos in their own resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from facegen.aging.results import FaceResult
from facegen.faces.align import cut_face
from facegen.figures.grids import age_strip
from facegen.images import turn_upright

LEAST, MOST = 256, 512  # pixels of a tile's side
MANY_FACES = 12  # of a photo with more, the tiles have the least size: all of them wait in memory
MISSED = 5.0  # years that a face may look older or younger than asked before its strip says so


def photo_strip(
    photo: Image.Image,
    photos: Sequence[Image.Image],
    face: FaceResult,
    *,
    tile: int | None = None,
    columns: int = 12,
) -> Image.Image:
    """Return a strip of one face in a photo, as it is and at every age, with captions.

    Args:
        photo: the photo given to `AgeTransfer.transfer`, which returned `photos` and `face`.
        tile: side of a picture in pixels; None uses the size of the face in the photo, 256 to 512.
        columns: pictures per row.
    """
    strip = GrowingStrip(photo, face, tile=tile)
    for picture in photos:
        strip.add(picture)
    return strip.picture(columns)


class GrowingStrip:
    """A strip of photos that come one by one, so that none needs to stay in memory.

    Args:
        photo: as it is.
        face: one of its faces.
        faces: how many there are.
        tile: pixels of a tile's side; None finds them.
    """

    def __init__(self, photo: Image.Image, face: FaceResult, faces: int = 1, tile: int | None = None) -> None:
        self._face, self._side = face, tile or _tile_side(face, faces)
        self._tiles = [face_tile(photo, face, self._side)]

    def add(self, photo: Image.Image) -> None:
        """Add the photo at the face's next age."""
        self._tiles.append(face_tile(photo, self._face, self._side))

    def picture(self, columns: int = 12) -> Image.Image:
        """Lay the tiles side by side; where the face looks another age than asked, it says so."""
        face = self._face
        captions = [f"photo, looks {face.input_age:.0f}" if face.age_is_estimated else "photo"]
        for aged in face.aged:
            missed = not math.isnan(aged.looks) and abs(aged.looks - aged.age) > MISSED
            captions.append(f"{aged.caption}, looks {aged.looks:.0f}" if missed else aged.caption)
        return age_strip(self._tiles, captions, tile=self._side, columns=columns)


def face_tile(photo: Image.Image, face: FaceResult, side: int) -> Image.Image:
    """Cut a face out of its photo, at whatever age, in `side` pixels."""
    return cut_face(turn_upright(photo), face.matrix * (side / face.input.width), side)


def _tile_side(face: FaceResult, faces: int) -> int:
    """The side of a face in a strip: as many pixels as the photo has there, within limits; of many faces few."""
    scale = math.hypot(face.matrix[0, 0], face.matrix[1, 0])
    return round(min(max(face.input.width / scale, LEAST), MOST if faces <= MANY_FACES else LEAST))
