"""`facegen mix`: some layers from one face, the others from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from facegen.aging.edit import parse_ages
from facegen.cli.latents import labels_or_usual, opened_space, outdir_option, space_options
from facegen.latents.seeds import parse_seeds
from facegen.options import Parsed
from facegen.status import say
from facegen.text import in_ranges


def side_options(side: str, words: str) -> Callable[..., Any]:
    """Give the command the options of its rows or of its columns: `--rows` and more of `row`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(f"--{side}-age", type=Parsed(parse_ages), metavar="YEARS", help=f"Ages of the {words}."),
            click.option(f"--{side}-group", metavar="NAMES", help=f"Names of the {words}' age groups or classes."),
            click.option(
                f"--{side}-class", f"{side}_classes", metavar="NUMBERS", help=f"Class numbers of the {words}."
            ),
            click.option(
                f"--{side}-projected-w",
                multiple=True,
                metavar="FILE|FOLDER",
                type=click.Path(path_type=Path),
                help=f"Use latents from a file as {words}. May be repeated.",
            ),
            click.option(
                f"--{side}s",
                type=Parsed(parse_seeds),
                metavar="SEEDS",
                help=f"Numbers of the {words}' faces, such as 0-3,7.",
            ),
        ):
            command = option(command)
        return command

    return add


@click.command()
@side_options("row", "rows")
@side_options("col", "columns")
@click.option(
    "--styles",
    metavar="LAYERS",
    help="Layers that come from the columns: coarse, middle, fine, or numbers such as 0-6.  [default: the lowest 40 %]",
)
@outdir_option("pictures")
@space_options
def command(
    rows: list[int] | None,
    cols: list[int] | None,
    row_projected_w: tuple[Path, ...],
    col_projected_w: tuple[Path, ...],
    styles: str | None,
    outdir: Path,
    **chosen: Any,
) -> None:
    """Mix faces: some layers come from the column's face, all others from the row's face.

    Coarse layers give pose and shape, fine layers give colors and skin. Writes 85-55.png for row 85 with column 55,
    85-85.png for each face itself, and grid.png with all of them. Several classes or ages become part of the names, as
    in 85_age70-55_age10.png. Latents from files are called proj00, proj01 and so on, rows first.

    \b
    Example:
      facegen mix --rows 85,100,75 --cols 55,821 --styles coarse
      facegen mix --rows 0-3 --row-age 75 --cols 4-7 --col-age 10
      facegen mix --row-projected-w out/projected_w.npz --cols 0-9 --styles 4-9
    """
    if (rows is None and not row_projected_w) or (cols is None and not col_projected_w):
        raise click.UsageError("name the faces: --rows 0-3 (or --row-projected-w FILE) and --cols 4-7")
    space = opened_space(chosen)
    from facegen.aging.edit import layer_indices
    from facegen.latents.mixing import check_count, faces_to_mix, save_mixtures, usual_styles

    num_ws = space.generator.num_ws
    layers = usual_styles(num_ws) if styles is None else layer_indices(styles, num_ws)
    asked = [{name: chosen[f"{side}_{name}"] for name in ("classes", "group", "age")} for side in ("row", "col")]
    row_labels = labels_or_usual(space, asked[0])
    column_labels = row_labels if asked[1] == asked[0] else labels_or_usual(space, asked[1])
    check_count(len(rows or []) * len(row_labels), len(cols or []) * len(column_labels))  # before all are mapped to w
    named = len({label.name for label in (*row_labels, *column_labels)}) > 1
    row_faces = faces_to_mix(space, rows or [], row_labels, row_projected_w, named=named)
    first = sum(face.seed is None for face in row_faces)
    column_faces = faces_to_mix(space, cols or [], column_labels, col_projected_w, named=named, first=first)
    say(f"Layers {in_ranges(layers)} of {num_ws} come from the columns", err=True)
    for path in save_mixtures(space, row_faces, column_faces, layers, outdir):
        say(str(path))
