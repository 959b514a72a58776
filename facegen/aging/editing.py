"""Change a face of a photo with an editor, at the photo's own resolution, with the area around the face.

The editor looks at the aligned face at its training size and says what changes (`facegen.networks.editor`). The change
is applied to a window of the photo around the face, with hair and neck, at the photo's resolution: around each pixel it
is a gain of the photo's own lines plus a shift, so that fading wrinkles fade down to the finest line. Beyond the face,
the change at the face's border continues. It fades toward the window's border, so that there is no seam.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image

from facegen.aging.edit import HELD, Age, Edit, group_of
from facegen.aging.guide import Guide
from facegen.aging.results import AgedFace, FaceResult
from facegen.errors import FacegenError
from facegen.faces.align import cut_face
from facegen.faces.find import yaw
from facegen.faces.mask import border_mask, protection, share_inside
from facegen.faces.template import AlignmentTemplate, Face, alignment_matrix, template_of
from facegen.images import shows_no_color, to_float
from facegen.networks.editor import Editor

if TYPE_CHECKING:
    from facegen.aging.transfer import AgeTransfer

EDITOR_FIRST = False  # whether an editor, if there is one, is the default method for photos
WINDOW = 1.25  # side of the window, in sides of the aligned face
FADE = (1 - 1 / WINDOW) / 2  # width of the fade at its border, as a share of its side: all that is around the face
LEAST_SIDE, MOST_SIDE = 128, 512  # pixels of the aligned face that the editor draws; beyond, it is resized
SMALLEST = 32  # pixels of the aligned face in the photo: of less, there is nothing to edit
TOO_SMALL = f"an editor needs faces of at least {SMALLEST} pixels, and this photo has none"
EDITOR_MOST = 1.5  # of the change as the editor drew it: more is no face that it has learned
DRAWN_SIDE = 128  # pixels of the aligned face that the network looks at, as in its training
NEAR = 2.0  # of these, where a change is one gain of the photo's lines and one shift
AGES_AT_ONCE = 32  # that the network draws in one batch: bounds the memory


@dataclass(frozen=True)
class Window:
    """An aligned face of a photo, with what is around it.

    picture: square, RGB.
    margin: pixels around the aligned face in it, on each side.
    """

    picture: Image.Image
    margin: int

    def matrix(self, of_face: np.ndarray) -> np.ndarray:
        """Return the matrix `[2, 3]` from pixels of the photo to these, by that to pixels of the aligned face."""
        return np.column_stack([of_face[:, :2], of_face[:, 2] + self.margin])

    @cached_property
    def mask(self) -> np.ndarray:
        """How much of a change shows: float32 `[W, W, 1]`, 0..1."""
        return border_mask(self.picture.width, FADE)

    @cached_property
    def face(self) -> Image.Image:
        """The aligned face."""
        side = self.picture.width - self.margin
        return self.picture.crop((self.margin, self.margin, side, side))

    def changed_face(self, change: np.ndarray) -> Image.Image:
        """Return the aligned face with a change of the window, `[W, W, 3]`, in levels."""
        pixels = np.asarray(self.picture, dtype=np.float32) + change * self.mask
        return Image.fromarray(np.rint(self.of_face(pixels)).clip(0, 255).astype(np.uint8))

    def of_face(self, pixels: np.ndarray) -> np.ndarray:
        """Return the aligned face's part of `[W, W, C]`."""
        side = len(pixels) - self.margin
        return pixels[self.margin : side, self.margin : side]


class PhotoEditor:
    """An editor at work on photos.

    Args:
        network: in evaluation mode, on its device.
        template: how the faces of its training were aligned.
    """

    def __init__(self, network: Editor, template: AlignmentTemplate) -> None:
        self.network, self.template = network.to(memory_format=torch.channels_last), template  # a third of the time

    @property
    def ages(self) -> Sequence[float]:
        """The youngest and the oldest age that it was trained on."""
        return self.network.ages

    def nearest_age(self, age: float) -> float:
        """The age that it knows which is closest to another one."""
        return min(max(age, self.ages[0]), self.ages[1])

    def margin(self, side: int) -> int:
        """How many pixels a window has around an aligned face of some side."""
        return round(side * (WINDOW - 1) / 2)

    def window(self, photo: Image.Image, face: Face | np.ndarray, side: int | None = None) -> Window:
        """Cut a face out of an upright photo.

        Args:
            face: a face, or its landmarks.
            side: of the aligned face, in pixels; None: as many as it has in the photo, within limits.
        """
        if side is None:
            side = 4 * math.ceil(np.clip(side_in_photo(face, self.template), LEAST_SIDE, MOST_SIDE) / 4)
        margin, matrix = self.margin(side), alignment_matrix(face, self.template, side)
        matrix[:, 2] += margin
        return Window(cut_face(photo, matrix, side + 2 * margin, mirrored=True), margin)

    @torch.no_grad()
    def changes(self, window: Window, own: float, ages: Sequence[float]) -> Iterator[np.ndarray]:
        """Yield what to add to a window's picture for a face to be of other ages: float32 `[W, W, 3]`, in levels.

        Args:
            own: how old the face is, in years.
            ages: how old it shall look.
        """
        device = self.network.last.weight.device
        face = window.face.resize((DRAWN_SIDE, DRAWN_SIDE), Image.Resampling.LANCZOS)
        guide = Guide(np.asarray(face, np.float32), NEAR)
        through = protection((DRAWN_SIDE, DRAWN_SIDE), self.template)
        image = to_float(torch.from_numpy(np.array(face)).to(device).permute(2, 0, 1)[None])
        for targets in torch.tensor(ages, dtype=torch.float32, device=device).split(AGES_AT_ONCE):
            images = image.expand(len(targets), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            change, mask = self.network.change(images, torch.full_like(targets, own), targets)
            for drawn in (change * mask * 127.5).permute(0, 2, 3, 1).cpu().numpy():
                yield enlarged(drawn * through, guide, window)


def enlarged(change: np.ndarray, guide: Guide, window: Window) -> np.ndarray:
    """Return the change of a face as one of its window, along the window's own lines (He and Sun 2015, section 3).

    Args:
        change: what changes in the aligned face, `[S, S, 3]`, in levels.
        guide: the aligned face, of the same size.
    """
    side, margin = window.picture.width, round(window.margin * len(change) / window.face.width)

    def on_window(part: np.ndarray, beyond: Literal["edge", "symmetric"]) -> np.ndarray:
        return resized(np.pad(part, ((margin, margin), (margin, margin), (0, 0)), mode=beyond), side)

    gain, shift = guide.fit(change)
    rest = change - gain * guide.picture - shift
    picture = np.asarray(window.picture, np.float32)
    return on_window(gain, "edge") * picture + on_window(shift, "edge") + on_window(rest, "symmetric")


class EditedFace:
    """What an editor changes in one face at some ages: a `facegen.aging.strength.Change`.

    Args:
        editor: at work on photos.
        window: the face, with what is around it.
        own: how old it is, in years.
        ages: years.
        size: side of what the age estimator sees.
        seen: the aligned face as it sees it; None: that of the window.

    Attributes:
        changes: what is added to the window at strength 1, float16 `[W, W, 3]` for each age.
    """

    most, understood = EDITOR_MOST, 1.0

    def __init__(
        self,
        editor: PhotoEditor,
        window: Window,
        own: float,
        ages: Sequence[float],
        size: int,
        seen: Image.Image | None = None,
    ) -> None:
        self.window, self.seen = window, seen or window.face
        self.changes = [change.astype(np.float16) for change in editor.changes(window, own, ages)]
        self._small = [resized(window.of_face(change * window.mask), size) for change in self.changes]

    def added(self, index: int, strength: float) -> np.ndarray:
        return strength * self.changes[index].astype(np.float32)

    def added_to_seen(self, index: int, strength: float) -> np.ndarray:
        return strength * self._small[index]


def side_in_photo(face: Face | np.ndarray, template: AlignmentTemplate) -> float:
    """How many pixels of the photo a side of the aligned face takes."""
    return 1 / float(np.hypot(*alignment_matrix(face, template, 1)[:, 0]))


def is_too_small(face: Face | np.ndarray, template: AlignmentTemplate) -> bool:
    """Whether a face has too few pixels in its photo for an editor."""
    return side_in_photo(face, template) < SMALLEST


def of_generator_only(edit: Edit) -> list[str]:
    """The options of an edit that an editor cannot follow, as they were not left at their defaults."""
    asked = {
        "layers": edit.layers is not None,
        "psi": edit.psi != 1.0,
        "refine": edit.refine > 0,
        "hold": edit.hold is not None and tuple(edit.hold) != HELD,
    }
    return [name for name, is_asked in asked.items() if is_asked]


def check_edit(editor: PhotoEditor | None, edit: Edit, ages: Iterable[float]) -> PhotoEditor:
    """Return the editor; raise a FacegenError if there is none, or if it cannot do the edit.

    Args:
        ages: all that is known of the ages in photos, and the ages to show, in years.
    """
    if editor is None:
        raise FacegenError(
            "method editor needs an editor, and facegen has none for this generator: give one with --editor FILE"
        )
    if names := of_generator_only(edit):
        raise FacegenError(
            f"method editor does not use {', '.join(names)}: only the generator does; do without, or use another method"
        )
    youngest, oldest = editor.ages
    for age in ages:
        if not youngest <= age <= oldest:
            raise FacegenError(
                f"age {age:g} is outside the range that this editor was trained for: {youngest:g} to {oldest:g} years"
            )
    return editor


def edit_faces(
    transfer: AgeTransfer,
    photo: Image.Image,
    faces: Sequence[Face],
    given: Sequence[float] | None,
    ages: Sequence[Age],
    edit: Edit,
) -> list[FaceResult]:
    """Edit the faces of one upright photo. Faces that are too small stay as they are.

    Args:
        transfer: has the editor, and tells ages.
        given: the ages of the faces; None: estimated.
    """
    has_color = not faces or not shows_no_color(photo)
    return [
        _edit_face(transfer, photo, face, None if given is None else given[index], ages, edit, has_color=has_color)
        for index, face in enumerate(faces)
    ]


def _edit_face(
    transfer: AgeTransfer,
    photo: Image.Image,
    face: Face,
    given: float | None,
    ages: Sequence[Age],
    edit: Edit,
    *,
    has_color: bool,
) -> FaceResult:
    editor = check_edit(transfer.editor, edit, ())
    window, seen = editor.window(photo, face), transfer.cut_out(photo, face)
    own = given if given is not None else editor.nearest_age(transfer.estimate_ages([seen])[0])
    own, too_small = round(own, 1), is_too_small(face, transfer.template)
    if too_small:
        aged = [AgedFace(age.caption, age.years, age.group, window.face, 0.0, own) for age in ages]
    else:
        change = EditedFace(editor, window, own, [age.years for age in ages], transfer.size, seen)
        aged = _aged(transfer, change, ages, edit.strength, has_color=has_color)
    side = window.face.width
    matrix = alignment_matrix(face, transfer.template, side)
    template = template_of(face, matrix, side)
    return FaceResult(
        box=face.box,
        matrix=matrix,
        input=window.face,
        reconstruction=window.face,
        input_age=own,
        input_group=group_of(own, transfer.groups),
        aged=aged,
        latent=np.zeros(0, np.float32),
        age_is_estimated=given is None,
        yaw=yaw(face),
        inside=share_inside(matrix, side, photo.size, template),
        template=template,
        window=window,
        too_small=too_small,
    )


def _aged(
    transfer: AgeTransfer, change: EditedFace, ages: Sequence[Age], strength: float | None, *, has_color: bool
) -> list[AgedFace]:
    """A face at other ages, each with as much of its change as it takes."""
    strengths, looks = transfer.strengths(change, [age.years for age in ages], strength)
    aged = []
    for index, (age, part, look) in enumerate(zip(ages, strengths, looks, strict=True)):
        picture = change.window.changed_face(change.added(index, part))
        picture = picture if has_color else picture.convert("L").convert("RGB")
        aged.append(AgedFace(age.caption, age.years, age.group, picture, part, look, change.changes[index]))
    return aged


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize a square `[H, H, C]` of any numbers to float32 `[side, side, C]`, as `AgeTransfer.to_tensor` does."""
    planes = [Image.fromarray(plane).resize((side, side), Image.Resampling.LANCZOS) for plane in _planes(pixels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _planes(pixels: np.ndarray) -> Iterable[np.ndarray]:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0), dtype=np.float32)
