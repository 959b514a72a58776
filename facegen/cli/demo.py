"""`facegen demo`: age transfer on a photo that every installation has."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

HOPPER_AGE = 77  # Rear Admiral Grace Hopper in 1984; US Navy, public domain; matplotlib's sample picture
DEMO_AGES = (15, 25, 35, 45, 55, 65, 85)


@click.command()
@click.option(
    "--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Folder for the pictures."
)
def command(outdir: Path) -> None:
    """Age the face in a sample photo with the weights in the package.

    \b
    Example:
      facegen demo --outdir out
    """
    from facegen.figures.plots import check_settings

    check_settings()
    from matplotlib.cbook import get_sample_data

    from facegen.aging.edit import Edit, Request
    from facegen.aging.transfer import AgeTransfer
    from facegen.batch.run import age_all
    from facegen.batch.sources import sources_in
    from facegen.status import say

    photo = get_sample_data("grace_hopper.jpg", asfileobj=False)
    request = Request(ages=DEMO_AGES, input_age=[HOPPER_AGE], face="largest")
    for outcome in age_all(AgeTransfer.from_files(), sources_in([photo], outdir), outdir, request, Edit()):
        if outcome.error is not None:
            raise outcome.error
        shutil.copyfile(photo, outdir / Path(photo).name)  # for trying other commands with it
        say(f"{Path(photo).name} at {len(DEMO_AGES)} other ages is in {outdir}.")
        say(f"Look at the strip: {outcome.paths[-1]}", f"Before and after: {outdir / 'index.html'}")
