"""Follow a face from one frame to the next, where the search for faces would take a hundred times as long.

MTCNN's last network looks at a crop and says where the landmarks are in it and how sure it is of a face. The crop is
where the face was in the frame before, turned upright; a face that has moved is still in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from facegen.device import pick_device
from facegen.faces.align import align_face
from facegen.faces.template import AlignmentTemplate, alignment_matrix, invert_matrix, moved

# Where the landmarks lie in the squares that MTCNN puts around upright faces: medians over 54 photos, made symmetric.
BOX = AlignmentTemplate(((0.324, 0.406), (0.676, 0.406), (0.5, 0.623), (0.34, 0.761), (0.66, 0.761)))


def follow(picture: Image.Image, faces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Look for faces near where they were.

    Args:
        picture: a frame, RGB.
        faces: N landmarks [5, 2], pixels of the frame before.

    Returns:
        Landmarks `[N, 5, 2]` in pixels of this frame, and how sure it is that there is a face, `[N]`, 0..1.
    """
    from facegen.faces.mtcnn import (  # imports torchvision: only who looks for faces waits for it
        CROP_SIDE,
        get_detector,
    )

    crops = np.stack([np.asarray(align_face(picture, face, BOX, CROP_SIDE)) for face in faces])
    places, sure = get_detector(pick_device()).look_closely(crops)
    ways = [invert_matrix(alignment_matrix(face, BOX, CROP_SIDE)) for face in faces]
    return np.stack([moved(place, way) for place, way in zip(places * CROP_SIDE, ways, strict=True)]), sure


def size_of(face: np.ndarray) -> float:
    """How large a face is: the mean distance of its landmarks `[5, 2]` from their middle (root of squares)."""
    return float(np.sqrt(np.square(face - face.mean(axis=0)).sum(axis=1).mean()))


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether landmarks `[5, 2]` of one frame are of one face: they are closer than two faces can be."""
    apart = float(np.hypot(*(one.mean(axis=0) - other.mean(axis=0))))
    return apart < 1.2 * min(size_of(one), size_of(other))
