"""`facegen pack`: any pictures into an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli import force_option
from facegen.data.packing.options import LABELS, PackOptions
from facegen.options import click_options


@click.command()
@click.argument("places", nargs=-1, metavar="SOURCE DEST", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path), help="Another way to name SOURCE.")
@click.option("--dest", type=click.Path(path_type=Path), help="Another way to name DEST.")
@click_options(PackOptions)
@click.option(
    "--labels",
    type=click.Choice(LABELS),
    help="dataset.json (or the data set's own), folders as classes, or none.  [default: json if there are labels]",
)
@click.option("--max-images", type=click.IntRange(min=1), help="Use only the first N usable pictures.")
@force_option
def command(
    places: tuple[Path, ...],
    source: Path | None,
    dest: Path | None,
    labels: str | None,
    max_images: int | None,
    force: bool,
    **chosen: Any,
) -> None:
    """Pack the pictures in SOURCE into the training archive DEST, a zip or a folder.

    SOURCE is a folder or zip of pictures, at any depth; CIFAR-10's cifar-10-python.tar.gz; MNIST's
    train-images-idx3-ubyte.gz next to its labels; or LSUN's *_lmdb folder (needs pip install lmdb). For faces with ages
    use `facegen prepare`. Pictures that cannot be used are skipped. They are counted by reason on the terminal, and
    listed in DEST.report.html and DEST.report.json. Ctrl-C stops; run the same command again to continue.

    \b
    Example:
      facegen pack photos/ photos256.zip --width 256 --transform center-crop
      facegen pack animals/ animals64.zip --width 64 --labels folders
      facegen pack cifar-10-python.tar.gz cifar10.zip
    """
    from facegen.data.in_words import packed
    from facegen.data.packing.pack import pack
    from facegen.data.spool import spool_path
    from facegen.status import say

    left = list(places)
    source = source or (left.pop(0) if left else None)
    dest = dest or (left.pop(0) if left else None)
    if source is None or dest is None or left:
        raise click.UsageError("give SOURCE and DEST and nothing else: facegen pack photos/ photos.zip")
    options = PackOptions.from_command(chosen)
    try:
        report = pack(source, dest, options, labels=labels, max_images=max_images, force=force)
    except KeyboardInterrupt:
        kept = spool_path(dest)
        say("", f"stopped; finished work is kept in {kept}: run the same command again to continue", err=True)
        raise click.exceptions.Exit(130) from None
    say(*packed(report, dest))
