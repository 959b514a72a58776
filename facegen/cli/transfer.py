"""`facegen transfer`: the faces in photos at other ages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.ages import AgeGroups
from facegen.aging.edit import PASTE_MODES, VIDEO_SUFFIXES, Edit, Request
from facegen.cli import device_option, encoder_option, generator_option, groups_option
from facegen.errors import one_line
from facegen.options import click_options


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option("--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Where pictures go.")
@click_options(Request, Edit)
@click.option(
    "--paste-back",
    type=click.Choice(PASTE_MODES),
    is_flag=False,
    flag_value=PASTE_MODES[0],
    help="Also the whole photo at each age: its faces with what aging changes (the same as without a word), or "
    "replaced by the generated faces.",
)
@click.option(
    "--video",
    type=click.Choice([suffix[1:] for suffix in VIDEO_SUFFIXES]),
    help="Also a video of each face through the ages; with --paste-back, of the photo, too.",
)
@generator_option
@encoder_option
@groups_option
@click.option("--age-estimator", metavar="FILE|RUN|URL", help="Another age estimator than the one in the package.")
@device_option
def command(
    photos: tuple[Path, ...],
    outdir: Path,
    paste_back: str | None,
    video: str | None,
    generator: str | None,
    encoder: str | None,
    groups: AgeGroups | None,
    age_estimator: str | None,
    device: str | None,
    **chosen: Any,
) -> None:
    """Change the age of the faces in photos. A PHOTO may be a folder: all pictures in it.

    Writes a picture per face and age, and per face a strip with its input, reconstruction and every age; with
    --paste-back also the photo itself at each age, in its own size, with all its faces changed. A photo that cannot
    be read or shows no face is named at the end of its turn, the others are done, the exit code is 1. Ctrl-C stops;
    what is written stays.

    \b
    Example:
      facegen transfer photo.jpg family.png --outdir out --ages 5,25,45,65,85
      facegen transfer photo.jpg --ages 5:90:5 --input-age 40
      facegen transfer photo.jpg --face largest --refine 150
      facegen transfer ~/Pictures/family --outdir out
      facegen transfer family.jpg --ages 5:90:5 --paste-back --video mp4
    """
    from facegen.status import say, status

    if outdir.exists() and not outdir.is_dir():
        raise click.UsageError(f"--outdir {outdir} is a file; name a folder")
    with status("loading the networks ..."):
        from facegen.aging.save import photos_in, save_all
        from facegen.aging.transfer import AgeTransfer
        from facegen.aging.video import check_video

        if video is not None:
            check_video(outdir / f"ages.{video}")
        files = photos_in(photos)
        request, edit = Request.from_command(chosen), Edit.from_command(chosen)
        transfer = AgeTransfer.from_files(generator, encoder, age_estimator=age_estimator, groups=groups, device=device)
    done = 0
    try:
        for outcome in save_all(transfer, files, outdir, request, edit, paste_back=paste_back, video=video):
            if isinstance(outcome, Exception):
                say(f"Error: {one_line(outcome)}", err=True)
            else:
                done += 1
                say(*map(str, outcome))
    except KeyboardInterrupt:
        say(f"Stopped: {done} of {len(files)} photos are done.", err=True)
        raise click.exceptions.Exit(130) from None
    if done < len(files):
        raise click.exceptions.Exit(1)
