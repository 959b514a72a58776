"""Draw one picture of strips: a row for each photo, its face as it is and at several ages. The README's first picture.

    python scripts/strips.py docs/images/photos.jpg --ages 20,35,50,65,80 \
        grace_hopper.jpg:77 eileen_collins.png:36 barack_obama.jpg:51 joe_biden.jpg:70
    python scripts/strips.py strips.jpg --faces --refine 150 ...

A number behind a photo's name is the age in it; without one it is estimated. The portraits are in the public domain:
matplotlib has the first, scikit-image the second (`astronaut.png`), face_recognition's sources the others.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from facegen.aging.edit import Edit, parse_ages
from facegen.aging.strips import face_tile
from facegen.aging.transfer import AgeTransfer
from facegen.errors import FacegenError
from facegen.figures.grids import save_image_grid
from facegen.images import open_photo

TILE = 112  # of generated faces
PHOTO_TILE = 200


def photo_and_age(text: str) -> tuple[Path, float | None]:
    """`hopper.jpg:77` as path and years."""
    name, _, age = text.rpartition(":")
    return (Path(name), float(age)) if name and age.isdigit() else (Path(text), None)


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True)
@click.option("--ages", default="5,15,25,35,45,55,65,75,85", show_default=True, help="Ages to show.")
@click.option("--faces", is_flag=True, help="Show the faces as the generator draws them, not the photos.")
@click.option("--refine", default=0, show_default=True, help="Steps of refinement for each face.")
@click.option("--generator", help="A generator to use instead of the one in the package.")
@click.option("--encoder", help="An encoder to use instead of the one in the package.")
@click.option("--age-estimator", help="An age estimator to use instead of the one in the package.")
def main(picture: Path, photos: tuple[str, ...], ages: str, faces: bool, refine: int, **files: str | None) -> None:
    """Write PICTURE: a row for every photo."""
    transfer = AgeTransfer.from_files(files["generator"], files["encoder"], age_estimator=files["age_estimator"])
    wanted, edit = parse_ages(ages), Edit(refine=refine)
    tiles: list[Image.Image] = []
    for path, age in map(photo_and_age, photos):
        photo = open_photo(path)
        at_ages, found = transfer.transfer(photo, wanted, input_age=age, faces="largest", edit=edit)
        if not found:
            raise FacegenError(f"{path}: no face found")
        (face,) = found
        if faces:
            tiles += [face.input, face.reconstruction, *(aged.image for aged in face.aged)]
        else:
            tiles += [face_tile(at_age, face, PHOTO_TILE) for at_age in (photo, *at_ages)]
    side = TILE if faces else PHOTO_TILE
    enlarged = [np.asarray(tile.resize((side, side), Image.Resampling.BICUBIC)) for tile in tiles]
    labels = ["photo", *["reconstruction"] * faces, *(f"{age:g}" for age in wanted)]
    save_image_grid(enlarged, picture, len(labels), column_labels=labels)


if __name__ == "__main__":
    main()
