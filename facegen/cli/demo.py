"""`facegen demo`: age transfer on a photo that every installation has."""

from __future__ import annotations

from pathlib import Path

import click

HOPPER_AGE = 77  # Rear Admiral Grace Hopper in 1984; US Navy, public domain; matplotlib's sample picture


@click.command()
@click.option("--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Where pictures go.")
def command(outdir: Path) -> None:
    """Age the face in a sample photo with the weights in the package.

    \b
    Example:
      facegen demo --outdir out
    """
    from facegen.figures.plots import check_settings

    check_settings()
    from matplotlib.cbook import get_sample_data

    from facegen.aging.edit import Edit
    from facegen.aging.save import save_results
    from facegen.aging.transfer import AgeTransfer
    from facegen.faces.find import open_photo
    from facegen.status import say

    transfer = AgeTransfer.from_files()
    photo = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
    edit = Edit(strength=1.0)  # to find another takes time, and no face goes back into the photo
    results = transfer.age_faces(open_photo(photo), input_age=HOPPER_AGE, faces="largest", edit=edit)
    paths = save_results(results, outdir, photo.stem)
    say(f"{len(paths) - 1} pictures of {photo.name} at other ages are in {outdir}.")
    say(f"Look at the strip: {paths[-1]}")
