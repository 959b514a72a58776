"""`facegen label`: labels for a folder of class folders."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.cli import force_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@force_option
def command(folder: Path, force: bool) -> None:
    """Label each picture in FOLDER by its subfolder, and write FOLDER/dataset.json.

    If every subfolder name begins with a number (0-10, 11-20, ...), classes are ordered by that number, otherwise by
    name. Files that get no label are listed on the terminal. An existing dataset.json with other labels is kept unless
    you give --force.

    \b
    Example:
      facegen label faces/        # faces/0-10/*.png, faces/11-20/*.png, ...
    """
    from facegen.data.label import label_folder
    from facegen.status import say

    report = label_folder(folder, force=force)
    width = max(len(name) for name in report.classes)
    for label, (name, count) in enumerate(report.counts.items()):
        say(f"{label:3d}  {name:{width}}  {count:7,d}")
    for name in report.empty:
        say(f"no picture in {name}, so it is not a class")
    for name in report.stray:
        say(f"not in a class folder, left out: {name}")
    for name in report.not_pictures:
        say(f"not a picture, left out: {name}")
    for reason in report.unreadable.values():
        say(f"unreadable, left out: {reason}")
    if not report.is_trainable:
        sizes = ", ".join(f"{w}x{h}" for w, h in sorted(report.sizes)[:5])
        say(f"sizes are {sizes}...: before training, make them squares of one size, a power of two")
    total, classes = sum(report.counts.values()), len(report.classes)
    say(f"{folder / 'dataset.json'}: {total:,d} pictures in {classes} classes")
