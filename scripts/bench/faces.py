"""Compare facegen's MTCNN cascade with facenet-pytorch's own: faces found and seconds, on the same photos.

Both run the same networks inside `find_faces_batch`, 32 photos at a time on one thread of the CPU, and take turns. The
seconds are the processor's, which other programs hardly change. facenet-pytorch takes photos of one size together, and
photos of different sizes one by one.

    .venv/bin/python scripts/bench/faces.py utkface128.zip --count 500
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import click
import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image

from facegen.container import Container, is_image_name
from facegen.faces import mtcnn
from facegen.faces.find import Face, find_faces_batch
from facegen.faces.mtcnn import Detections

BATCH = 32  # photos per call
DEVICE = torch.device("cpu")


class Reference:
    """facenet-pytorch's MTCNN with the interface of `facegen.faces.mtcnn.Detector`."""

    def __init__(self) -> None:
        self.mtcnn = MTCNN(keep_all=True, device=DEVICE)

    def detect(self, pictures: Sequence[np.ndarray]) -> list[Detections]:
        """Return the faces of each picture (uint8 [H, W, 3], RGB)."""
        found = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))] * len(pictures)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, picture in enumerate(pictures):
            if min(picture.shape[:2]) >= mtcnn.SMALLEST_FACE:
                by_size.setdefault(picture.shape, []).append(index)
        for group in by_size.values():
            answers = self.mtcnn.detect(np.stack([pictures[index] for index in group]), landmarks=True)
            for index, boxes, probabilities, landmarks in zip(group, *answers, strict=True):
                if boxes is not None:
                    parts = (np.asarray(part, dtype=np.float64) for part in (boxes, probabilities, landmarks))
                    found[index] = Detections(*parts)
        return found


def read(source: Path, count: int) -> list[Image.Image]:
    """Read `count` pictures, spread evenly over a folder or zip."""
    files = Container(source)
    names = [name for name in files.names if is_image_name(name)]
    chosen = np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)
    return [Image.open(io.BytesIO(files.read(names[index]))).convert("RGB") for index in chosen]


def pasted(crops: list[Image.Image]) -> list[Image.Image]:
    """Paste each crop, 80 to 300 pixels wide, somewhere into a photo of 300 to 1000 pixels that shows soft clutter."""
    rng = np.random.default_rng(0)
    photos = []
    for crop in crops:
        width, height = (int(side) for side in rng.integers(300, 1000, 2))
        clutter = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        photo = clutter.resize((width, height), Image.Resampling.BICUBIC)
        side = int(rng.integers(80, 300))
        corner = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        photo.paste(crop.resize((side, side), Image.Resampling.BICUBIC), corner)
        photos.append(photo)
    return photos


def search(detector: mtcnn.Detector | Reference, photos: list[Image.Image]) -> tuple[float, list[list[Face]]]:
    """Find the faces of all photos; the seconds of the processor that it takes, and the faces."""
    begin = time.process_time()
    with mock.patch.object(mtcnn, "get_detector", return_value=detector):
        found = find_faces_batch(photos)
    return time.process_time() - begin, found


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=500, show_default=True, help="How many pictures.")
def main(source: Path, count: int) -> None:
    """Measure on the pictures in SOURCE, a folder or zip of face crops: as they are, and pasted into larger photos."""
    torch.set_num_threads(1)
    crops = read(source, count)
    detectors: dict[str, mtcnn.Detector | Reference] = {
        "facegen": mtcnn.get_detector(DEVICE),
        "facenet-pytorch": Reference(),
    }
    for kind, photos in {"photos": pasted(crops), "crops": crops}.items():
        seconds = dict.fromkeys(detectors, 0.0)
        found: dict[str, list[list[Face]]] = {name: [] for name in detectors}
        for detector in detectors.values():  # first calls are slow
            search(detector, photos[:2])
        for number, start in enumerate(range(0, len(photos), BATCH)):
            for name in list(detectors)[:: 1 if number % 2 else -1]:
                taken, faces = search(detectors[name], photos[start : start + BATCH])
                seconds[name] += taken
                found[name] += faces
        for name, faces in found.items():
            click.echo(
                f"{kind}: {name} finds {sum(map(len, faces))} faces in {sum(map(bool, faces))} of {len(photos)},"
                f" in {seconds[name]:.1f} s"
            )
        click.echo(f"{kind}: facegen is {seconds['facenet-pytorch'] / seconds['facegen']:.2f} times as fast")


if __name__ == "__main__":
    main()
