"""The faces of many photos: pictures of each, and lists of where they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facegen.errors import FacegenError
from facegen.faces.align import align_face, cut_face
from facegen.faces.find import find_faces
from facegen.faces.options import FaceOptions
from facegen.faces.template import UTKFACE_TEMPLATE, Face
from facegen.files import atomic_path, write_json
from facegen.images import open_photo, save_picture
from facegen.parallel import map_in_order

if TYPE_CHECKING:
    from facegen.batch.sources import Source
    from facegen.faces.mtcnn import Detector
    from facegen.weights.face_network import FaceNetwork

SURE = 0.9  # of `--select over-threshold`
CENTER_WEIGHT = 2.0  # of `--select center`: how much the squared distance from the middle counts against the area
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = ["photo", "face", "picture", "probability", "left", "top", "right", "bottom"]
COLUMNS += [f"{point}_{axis}" for point in POINTS for axis in "xy"]


@dataclass
class Found:
    """The faces of a photo that were taken.

    Attributes:
        source: the photo, and where its pictures go.
        size: of the photo turned upright, in pixels; boxes and landmarks are in these.
        faces, pictures: in the order of the photo's faces, the largest first.
        inputs: what the network that tells people takes, where there is one: uint8 `[N, size, size, 3]`.
        error: why the photo could not be read.
    """

    source: Source
    size: tuple[int, int] = (0, 0)
    faces: list[Face] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    inputs: np.ndarray | None = None
    error: Exception | None = None


def collect(
    sources: Sequence[Source],
    outdir: Path,
    options: FaceOptions,
    detector: Detector,
    network: FaceNetwork | None = None,
) -> Iterator[Found]:
    """Find the faces in photos on all cores, and write a picture of each into `outdir`, `<photo>-face<N>.png`.

    A photo that cannot be read has an error and no faces; the others are done.
    """

    def work(source: Source) -> Found:
        try:
            return _collect(source, outdir if len(sources) == 1 else source.folder.parent, options, detector, network)
        except (FacegenError, FileNotFoundError) as error:
            return Found(source, error=error)

    return map_in_order(work, sources, ahead=2)


def choose(faces: list[Face], size: tuple[int, int], how: str) -> list[Face]:
    """Return the faces of a picture that are taken, of all of them, largest first; `how` is one of SELECTIONS."""
    if how == "over-threshold":
        faces = [face for face in faces if face.probability > SURE]
    if how == "probability":
        faces = sorted(faces, key=lambda face: -face.probability)
    if how == "center":
        faces = sorted(faces, key=lambda face: CENTER_WEIGHT * _off_center(face, size) ** 2 - _area(face))
    return faces if how == "all" else faces[:1]


def cut(photo: Image.Image, face: Face, options: FaceOptions) -> Image.Image:
    """The picture of a face: upright on the template of age transfer, or the square about its box."""
    if not options.plain:
        return align_face(photo, face, UTKFACE_TEMPLATE.widened(options.margin), options.size)
    left, top, right, bottom = face.box
    side = max(right - left, bottom - top, 1) * (1 + options.margin)
    scale = options.size / side
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    return cut_face(photo, np.array([[scale, 0, -scale * x], [0, scale, -scale * y]]), options.size)


def write_lists(outdir: Path, found: Sequence[Found]) -> list[Path]:
    """Write `faces.json` and `faces.csv`, and return them. What could not be read is in the JSON alone."""
    photos: list[dict[str, Any]] = []
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        entry: dict[str, Any] = {"photo": str(one.source.path)}
        if one.error is not None:
            photos.append(entry | {"error": str(one.error)})
            continue
        rows = [_numbers(face) for face in one.faces]
        names = [path.relative_to(outdir).as_posix() for path in one.pictures]
        entry["width"], entry["height"] = one.size
        entry["faces"] = [
            {"picture": name, "probability": row[0], "box": row[1:5], "landmarks": np.reshape(row[5:], (5, 2)).tolist()}
            for name, row in zip(names, rows, strict=True)
        ]
        photos.append(entry)
        for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
            writer.writerow([entry["photo"], number, name, *row])
    write_json(outdir / "faces.json", {"photos": photos})
    with atomic_path(outdir / "faces.csv") as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")
    return [outdir / "faces.json", outdir / "faces.csv"]


def _collect(
    source: Source, folder: Path, options: FaceOptions, detector: Detector, network: FaceNetwork | None
) -> Found:
    photo = open_photo(source.path)
    smallest = options.min_face or 0
    # MTCNN sees faces of 20 pixels, so the photo is searched at the size at which the smallest one has as many.
    max_side = round(max(photo.size) * 20 / smallest) if smallest else None
    faces = [face for face in find_faces(photo, max_side=max_side, detector=detector) if _area(face) >= smallest**2]
    faces = choose(faces, photo.size, options.select)
    found = Found(source, photo.size, faces)
    for number, face in enumerate(faces, start=1):
        path = folder / f"{source.stem}-face{number}.png"
        found.pictures.append(save_picture(cut(photo, face, options), path))
    if network is not None and faces:
        aligned = [align_face(photo, face, network.template, network.size) for face in faces]
        found.inputs = np.stack([np.asarray(picture) for picture in aligned])
    return found


def _numbers(face: Face) -> list[float]:
    """Probability, box and landmarks, as far as they mean anything."""
    return [round(face.probability, 6), *np.round([*face.box, *face.landmarks.ravel()], 2).tolist()]


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)


def _off_center(face: Face, size: tuple[int, int]) -> float:
    """How far the middle of a face's box lies from that of the picture, in pixels."""
    left, top, right, bottom = face.box
    return float(np.hypot((left + right - size[0]) / 2, (top + bottom - size[1]) / 2))
