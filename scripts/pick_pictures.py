"""Copy out of a zip of pictures those that a training archive was made of, so that another archive has the same faces.

`facegen prepare` drops near duplicates and draws the held-out faces after that; at another resolution it would drop
other ones, and a face held out there may have been trained on here.

    python scripts/pick_pictures.py UTKFace.zip faces64-train.zip picked.zip
    facegen prepare picked.zip faces128-train.zip --resolution 128
"""

from __future__ import annotations

import json
import zipfile

import click

from facegen.files import atomic_path


def sources_of(archive: str) -> set[str]:
    """Return the names of the pictures that an archive's faces come from, as their zip names them."""
    with zipfile.ZipFile(archive) as files:
        faces = json.loads(files.read("facegen.json"))["faces"]
    return {face["source"] for face in faces}


@click.command()
@click.argument("pictures", type=click.Path(exists=True, dir_okay=False))
@click.argument("archive", type=click.Path(exists=True, dir_okay=False))
@click.argument("picked", type=click.Path(dir_okay=False))
def main(pictures: str, archive: str, picked: str) -> None:
    """Write to the zip PICKED those of PICTURES that ARCHIVE was made of.

    \b
    Example:
      python scripts/pick_pictures.py UTKFace.zip faces64-train.zip picked.zip
    """
    wanted = sources_of(archive)
    with zipfile.ZipFile(pictures) as source, atomic_path(picked) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as target:
            for entry in source.infolist():
                if entry.filename in wanted:
                    wanted.remove(entry.filename)
                    target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry))
        if wanted:
            raise click.ClickException(f"{pictures}: lacks {len(wanted)} pictures of {archive} (first: {min(wanted)})")


if __name__ == "__main__":
    main()
