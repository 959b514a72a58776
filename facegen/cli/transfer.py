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
@click.option("--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Where pictures go.")
@click_options(Request, Edit, Output)
@click.option(
    "--paste-back",
    type=click.Choice(PASTE_MODES),
    is_flag=False,
    flag_value=PASTE_MODES[0],
    default=PASTE_MODES[0],
    show_default=True,
    help="How aged faces go into the photo: what aging changes is added to it, or the generated face replaces it.",
)
@click.option("--recursive", is_flag=True, help="Of a folder, take the pictures in its folders, too.")
@click.option("--skip-existing", is_flag=True, help="Leave out photos whose pictures are there, made in the same way.")
@generator_option
@encoder_option
@editor_option
@groups_option
@click.option("--age-estimator", metavar="FILE|RUN|URL", help="Another age estimator than the one in the package.")
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

    A PHOTO may be a folder, which is all pictures in it, or a video or animated GIF, WebP or PNG.

    Writes the photo at each age, in its own size with all its faces changed, and per face a strip cut from these
    photos; index.html shows photos before and after. Of several photos each has a folder of its own. A photo that
    cannot be read or shows no face is named, the others are done, the exit code is 1. Ctrl-C stops; what is written
    stays, and --skip-existing goes on from there.

    A clip gives a clip at each age: its faces are followed, its sound is kept. Videos need
    pip install "facegen[video]".

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
