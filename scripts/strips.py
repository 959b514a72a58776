"""Draw one picture of strips: photos, the face in each, and that face at several ages. The README's first picture.

    python scripts/strips.py strips.png --refine 150 \
        grace_hopper.jpg:77 eileen_collins.png:36 barack_obama.jpg:51 joe_biden.jpg:70

A number behind a photo's name is the age in it; without one it is estimated.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from facegen.aging.edit import Edit, parse_ages
from facegen.aging.transfer import AgeTransfer
from facegen.errors import FacegenError
from facegen.faces.find import open_photo
from facegen.figures.grids import save_image_grid

TILE = 112


def photo_and_age(text: str) -> tuple[Path, float | None]:
    """`hopper.jpg:77` as path and years."""
    name, _, age = text.rpartition(":")
    return (Path(name), float(age)) if name and age.isdigit() else (Path(text), None)


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True)
@click.option("--ages", default="5,15,25,35,45,55,65,75,85", show_default=True, help="Ages to show.")
@click.option("--refine", default=0, show_default=True, help="Steps of refinement for each face.")
@click.option("--generator", help="Another generator than the one in the package.")
@click.option("--encoder", help="Another encoder than the one in the package.")
@click.option("--age-estimator", help="Another age estimator than the one in the package.")
def main(picture: Path, photos: tuple[str, ...], ages: str, refine: int, **files: str | None) -> None:
    """Write PICTURE: a row for every photo."""
    transfer = AgeTransfer.from_files(files["generator"], files["encoder"], age_estimator=files["age_estimator"])
    wanted = parse_ages(ages)
    tiles: list[Image.Image] = []
    for path, age in map(photo_and_age, photos):
        faces = transfer.age_faces(open_photo(path), wanted, input_age=age, faces="largest", edit=Edit(refine=refine))
        if not faces:
            raise FacegenError(f"{path}: no face found")
        tiles += [faces[0].input, faces[0].reconstruction, *(aged.image for aged in faces[0].aged)]
    enlarged = [np.asarray(tile.resize((TILE, TILE), Image.Resampling.BICUBIC)) for tile in tiles]
    labels = ["photo", "reconstruction", *(f"{age:g}" for age in wanted)]
    save_image_grid(enlarged, picture, len(labels), column_labels=labels)


if __name__ == "__main__":
    main()
