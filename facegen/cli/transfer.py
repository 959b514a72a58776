"""`facegen transfer`: the faces in photos at other ages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.ages import AgeGroups
from facegen.aging.edit import PASTE_MODES, Edit, Output, Request, by_editor
from facegen.cli import device_option, editor_option, encoder_option, generator_option, groups_option
from facegen.errors import one_line
from facegen.options import click_options
from facegen.status import say, status

if TYPE_CHECKING:
    from facegen.batch.run import Outcome

MAX_NAMES = 20  # of photos that failed, in one line


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option(
    "--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Folder for the pictures."
)
@click_options(Request, Edit, Output)
@click.option(
    "--paste-back",
    type=click.Choice(PASTE_MODES),
    is_flag=False,
    flag_value=PASTE_MODES[0],
    default=PASTE_MODES[0],
    show_default=True,
    help="change: add to the photo what aging changes. face: replace the face with the generated one.",
)
@click.option("--recursive", is_flag=True, help="Also use the pictures in subfolders.")
@click.option(
    "--skip-existing", is_flag=True, help="Skip photos whose results exist and were made with the same settings."
)
@generator_option
@encoder_option
@editor_option
@groups_option
@click.option(
    "--age-estimator", metavar="FILE|RUN|URL", help="An age estimator to use instead of the one in the package."
)
@device_option
def command(
    photos: tuple[Path, ...],
    outdir: Path,
    recursive: bool,
    skip_existing: bool,
    generator: str | None,
    encoder: str | None,
    groups: AgeGroups | None,
    editor: str | None,
    age_estimator: str | None,
    device: str | None,
    **chosen: Any,
) -> None:
    """Change the age of the faces in photos and clips.

    PHOTO may also be a folder of pictures, a video, or an animated GIF, WebP or PNG.

    Writes the photo at each age, at full size and with all its faces changed, and for each face a strip of all ages.
    index.html shows the photos before and after. Several photos get a folder each. A photo that cannot be read or shows
    no face is reported, the others are processed, and the exit code is 1. Ctrl-C stops and keeps what is written;
    --skip-existing continues from there.

    A clip becomes a clip at each age, with its sound. Videos need pip install "facegen[video]".

    \b
    Example:
      facegen transfer photo.jpg --ages 25,65
      facegen transfer photo.jpg family.png --outdir out --ages 5,25,45,65,85
      facegen transfer photo.jpg --ages 5:90:5 --input-age 40 --strength 1.3
      facegen transfer photo.jpg --output face --refine 150
      facegen transfer ~/Pictures --recursive --skip-existing --outdir out --ages 70
      facegen transfer family.jpg --ages 5:90:5 --video mp4
      facegen transfer clip.mp4 --ages 70
    """
    if outdir.exists() and not outdir.is_dir():
        raise click.UsageError(f"--outdir {outdir} is a file; name a folder")
    request, output = Request.from_command(chosen), Output.from_command(chosen)
    edit = by_editor(Edit.from_command(chosen), editor)
    with status("loading the networks ..."):
        from facegen.aging.transfer import AgeTransfer
        from facegen.aging.video import check_video
        from facegen.batch.run import age_all
        from facegen.batch.sources import sources_in

        if output.video is not None:
            check_video(outdir / f"ages.{output.video}")
        sources = sources_in(photos, outdir, recursive=recursive)
        transfer = AgeTransfer.from_files(
            generator, encoder, age_estimator=age_estimator, editor=editor, groups=groups, device=device
        )
    outcomes = age_all(transfer, sources, outdir, request, edit, output, skip_existing=skip_existing)
    _tell(outcomes, len(sources), outdir)


def _tell(outcomes: Iterable[Outcome], count: int, outdir: Path) -> None:
    """Say what becomes of the photos, and end with an exit code that tells it, too."""
    done, skipped, failed = 0, 0, []
    try:
        for outcome in outcomes:
            if outcome.error is not None:
                failed.append(outcome.source.path)
                say(f"Error: {one_line(outcome.error)}", err=True)
            else:
                done += not outcome.skipped
                skipped += outcome.skipped
                say(*map(str, outcome.paths))
    except KeyboardInterrupt:
        say(f"Stopped: {done + skipped} of {count} photos are done.", err=True)
        raise click.exceptions.Exit(130) from None
    if count > 1:
        say(_summary(done, skipped, failed, outdir), err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _summary(done: int, skipped: int, failed: Sequence[Path], outdir: Path) -> str:
    """`12 photos are in out, 3 of them from before; 2 failed: a.jpg, b.jpg`."""
    words = f"{done + skipped} photos are in {outdir}" + f", {skipped} of them from before" * bool(skipped)
    if failed:
        names = ", ".join(map(str, failed[:MAX_NAMES])) + f" and {len(failed) - MAX_NAMES} more" * (
            len(failed) > MAX_NAMES
        )
        words += f"; {len(failed)} failed: {names}"
    return words
