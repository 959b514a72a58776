"""Time the two ways to age the face in a photo, the generator's and the editor's, in turns.

    .venv/bin/python scripts/bench/methods.py --threads 2 --ages 65
    .venv/bin/python scripts/bench/methods.py --ages 5,15,25,35,45,55,65,75,85,95 --side 512

The photo is that of `facegen demo`, resized so that its aligned face has `--side` pixels. The time is that of all but
finding the face: cutting, drawing, solving the strengths, pasting. It is the processor's, so that other jobs do not
count: with one thread it is what a free core takes.
"""

from __future__ import annotations

import time
from statistics import median

import click
import torch
from PIL import Image

from facegen import AgeTransfer
from facegen.aging.edit import Edit, parse_ages
from facegen.aging.editing import side_in_photo
from facegen.aging.paste import paste_results
from facegen.faces.find import find_faces
from facegen.faces.template import Face
from facegen.images import open_photo


def resized_to(side: int, transfer: AgeTransfer) -> tuple[Image.Image, Face]:
    """The sample photo and its face, whose aligned picture has `side` pixels."""
    from matplotlib.cbook import get_sample_data

    photo = open_photo(get_sample_data("grace_hopper.jpg", asfileobj=False))
    landmarks = find_faces(photo)[0].landmarks
    scale = side / side_in_photo(landmarks, transfer.template)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    return photo, Face((0, 0, *photo.size), 1.0, landmarks * scale)


@click.command()
@click.option("--ages", default="65", show_default=True, help="Ages to show.")
@click.option("--side", default=256, show_default=True, help="Pixels of the aligned face in the photo.")
@click.option("--rounds", default=9, show_default=True, help="Photos for each method; the first does not count.")
@click.option("--threads", default=1, show_default=True, help="Threads of PyTorch.")
def main(ages: str, side: int, rounds: int, threads: int) -> None:
    """Print the median seconds of a photo for each method, and their ratio."""
    torch.set_num_threads(threads)
    transfer = AgeTransfer.from_files(device="cpu")
    photo, face = resized_to(side, transfer)
    seconds: dict[str, list[float]] = {"shift": [], "editor": []}
    for _ in range(rounds):
        for method, times in seconds.items():
            start = time.process_time()
            results = transfer.age_found([photo], [[face]], parse_ages(ages), edit=Edit(method=method))[0]
            list(paste_results(photo, results, template=transfer.template))
            times.append(time.process_time() - start)
    shift, editor = (median(times[1:]) for times in seconds.values())
    click.echo(f"shift {shift:.3f} s, editor {editor:.3f} s: {editor / shift:.2f} times as long")


if __name__ == "__main__":
    main()
