"""`facegen transfer`: the faces in photos at other ages."""

from __future__ import annotations

import sys
from pathlib import Path

import click


def _ages(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(age) for age in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of ages; write years, as in 5,25,45,65,85") from error


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option("--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Where pictures go.")
@click.option("--ages", callback=_ages, metavar="YEARS", help="Ages to show, as in 5,25,45,65,85.")
@click.option("--groups", type=click.Choice(["all"]), help="Show every age group (so it is without --ages).")
@click.option(
    "--face",
    "faces",
    type=click.Choice(["all", "largest"]),
    default="all",
    show_default=True,
    help="Which faces of a photo.",
)
@click.option(
    "--input-age",
    type=int,
    metavar="YEARS",
    help="Age in the photo: its group is used for the reconstruction.  [default: the group that looks closest]",
)
@click.option("--generator", metavar="FILE|RUN|URL", help="Another generator than the one in the package.")
@click.option("--encoder", metavar="FILE|RUN|URL", help="Another encoder than the one in the package.")
@click.option("--psi", default=1.0, show_default=True, help="Below 1, faces are drawn to the mean of their group.")
@click.option("--device", help="cuda or cpu.  [default: a GPU when there is one]")
def command(
    photos: tuple[Path, ...],
    outdir: Path,
    ages: list[int] | None,
    groups: str | None,
    faces: str,
    input_age: int | None,
    generator: str | None,
    encoder: str | None,
    psi: float,
    device: str | None,
) -> None:
    """Change the age of the faces in photos.

    Writes a picture per face and age, and per face a strip with its input, reconstruction and every age. A photo
    that cannot be read or shows no face is named at the end of its turn, the others are done, the exit code is 1.

    \b
    Example:
      facegen transfer photo.jpg family.png --outdir out --ages 5,25,45,65,85
    """
    from tqdm import tqdm

    from facegen.cli import one_line
    from facegen.errors import FacegenError
    from facegen.faces import open_photo
    from facegen.transfer import ALL, AgeTransfer, save_results, unique_stems

    if ages is not None and groups is not None:
        raise click.UsageError("give --ages or --groups, not both")
    if outdir.exists() and not outdir.is_dir():
        raise click.UsageError(f"--outdir {outdir} is a file; name a folder")
    transfer = AgeTransfer.from_files(generator, encoder, device=device)
    wanted = ALL if ages is None else ages
    for age in [*(ages or []), *([] if input_age is None else [input_age])]:
        transfer.group_of(age)  # a wrong age is wrong for every photo: say so once

    failed = 0
    stems = unique_stems(photos)
    for photo, stem in tqdm(list(zip(photos, stems, strict=True)), unit="photo", disable=len(photos) < 2):
        try:
            results = transfer.transfer(open_photo(photo), wanted, input_age=input_age, faces=faces, psi=psi)
            if not results:
                raise FacegenError(f"{photo}: no face found")
            for path in save_results(results, outdir, stem):
                tqdm.write(str(path))
        except (FacegenError, OSError) as error:
            failed += 1
            tqdm.write(f"Error: {one_line(error)}", file=sys.stderr)
    if failed:
        raise click.exceptions.Exit(1)
