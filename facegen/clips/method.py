"""How faces of a clip change: by the generator or by an editor, with crops as each of them takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from facegen.aging.drawing import DrawnFace, drawn_pictures
from facegen.aging.edit import Edit
from facegen.aging.editing import EditedFace, PhotoEditor, Window
from facegen.aging.strength import Change
from facegen.aging.transfer import AgeTransfer
from facegen.faces.template import alignment_matrix

SIDE = 192  # pixels of the aligned face that an editor changes: what moves slowly needs no more, and memory is saved


class ByGenerator:
    """Crops are the faces as the encoder sees them.

    Attributes:
        size: side of a crop, in pixels.
        mask: how much of a change shows in the crop, `[S, S, 1]`; None: the face's ellipse.
    """

    def __init__(self, transfer: AgeTransfer, edit: Edit) -> None:
        self._transfer, self._edit = transfer, edit
        self.size, self.mask = transfer.size, None

    def cut(self, picture: Image.Image, landmarks: np.ndarray) -> Image.Image:
        """Cut a face out of a frame."""
        return self._transfer.cut_out(picture, landmarks)

    def matrix(self, landmarks: np.ndarray) -> np.ndarray:
        """The matrix `[2, 3]` from pixels of the frame to pixels of the crop."""
        return alignment_matrix(landmarks, self._transfer.template, self.size)

    def faces(self, crops: Sequence[Image.Image]) -> list[Image.Image]:
        """The aligned faces in crops."""
        return list(crops)

    def changes(
        self, crops: Sequence[Image.Image], own: float, years: Sequence[float], has_color: bool
    ) -> Sequence[Change]:
        """What changes in each crop.

        Args:
            own: the age in all of them, in years.
            years: the other ages.
            has_color: the clip is not black and white.
        """
        tensor, template = self._transfer.to_tensor(crops), self._transfer.template
        rendered = self._transfer.render(tensor, years, input_ages=[own] * len(crops), edit=self._edit)
        copies = drawn_pictures(rendered.reconstructions, has_color)
        older = [age - own for age in years]
        return [
            DrawnFace(face, copy, drawn_pictures(aged, has_color), older, template)
            for face, copy, aged in zip(crops, copies, rendered.aged, strict=True)
        ]


class ByEditor:
    """Crops are windows around the faces; attributes and methods as those of `ByGenerator`."""

    def __init__(self, transfer: AgeTransfer, editor: PhotoEditor) -> None:
        self._transfer, self._editor = transfer, editor
        self._margin = editor.margin(SIDE)
        self.size = SIDE + 2 * self._margin
        self.mask = self._window(Image.new("RGB", (self.size, self.size))).mask

    def cut(self, picture: Image.Image, landmarks: np.ndarray) -> Image.Image:
        return self._editor.window(picture, landmarks, SIDE).picture

    def matrix(self, landmarks: np.ndarray) -> np.ndarray:
        matrix = alignment_matrix(landmarks, self._transfer.template, SIDE)
        return np.column_stack([matrix[:, :2], matrix[:, 2] + self._margin])

    def faces(self, crops: Sequence[Image.Image]) -> list[Image.Image]:
        return [self._window(crop).face for crop in crops]

    def changes(
        self, crops: Sequence[Image.Image], own: float, years: Sequence[float], has_color: bool
    ) -> Sequence[Change]:
        own, windows = self._editor.nearest_age(own), [self._window(crop) for crop in crops]
        return [EditedFace(self._editor, window, own, years, self._transfer.size) for window in windows]

    def _window(self, crop: Image.Image) -> Window:
        return Window(crop, self._margin)


Method = ByGenerator | ByEditor


def method_of(transfer: AgeTransfer, edit: Edit) -> Method:
    """The method of an edit that `AgeTransfer.check` has let through."""
    if transfer.method(edit) == "editor" and transfer.editor is not None:
        return ByEditor(transfer, transfer.editor)
    return ByGenerator(transfer, edit)
