"""`facegen generate`: pictures of faces from seeds and latents."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from facegen.cli.latents import chosen_labels, label_options, only_label, opened_space, outdir_option, space_options
from facegen.latents.options import PROCESSES
from facegen.latents.seeds import parse_seeds
from facegen.options import Parsed
from facegen.status import say


class ImagesOrWalk(click.Command):
    """Programs of the StyleGAN family also walk by the command of this name: `--process interpolation`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        process = _process_in(args)
        if process not in PROCESSES:
            return super().make_context(info_name, args, parent, **extra)
        say(f"generate --process {process} is called `facegen walk` here", err=True)
        from facegen.cli.latents.walk import command as walk

        return walk.make_context("walk", args, parent, **extra)


def _process_in(arguments: list[str]) -> str:
    """The value of `--process`; empty if it is not given."""
    for argument, after in pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name == "--process":
            return (value if equals else after).replace("_", "-")
    return ""


@click.command(cls=ImagesOrWalk)
@click.option("--seeds", type=Parsed(parse_seeds), metavar="SEEDS", help="Numbers of the faces, such as 0-3,7,20-22.")
@click.option(
    "--projected-w",
    multiple=True,
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Draw latents from a file instead, such as one from facegen project. May be repeated.",
)
@outdir_option("pictures")
@click.option(
    "--process",
    type=click.Choice(["image", *PROCESSES]),
    default="image",
    expose_value=False,
    help="image. For the others use facegen walk.",
)
@label_options
@click.option("--grid", is_flag=True, help="Also write grid.png, with a row per seed and a column per class or age.")
@click.option(
    "--save-latents", is_flag=True, help="Also write latents.npz, with w, z, seeds and classes of all pictures."
)
@click.option(
    "--labels-json",
    is_flag=True,
    help="Also write dataset.json with the classes, so that you can train on the pictures.",
)
@space_options
def command(
    seeds: list[int] | None,
    projected_w: tuple[Path, ...],
    outdir: Path,
    grid: bool,
    save_latents: bool,
    labels_json: bool,
    **chosen: Any,
) -> None:
    """Draw faces from seeds. The same seed gives the same face in every class and at every age.

    Writes seed0007.png for each seed, or seed0007-21-30.png and seed0007-age35.png for several classes or ages.

    \b
    Example:
      facegen generate --seeds 0-7 --age 35
      facegen generate --seeds 0-3 --age 5:90:17 --grid --outdir faces
      facegen generate --seeds 600-605 --trunc 0.7 --network ffhq1024
      facegen generate --projected-w out/projected_w.npz
    """
    if seeds is None and not projected_w:
        raise click.UsageError("name the faces: --seeds 0-7, or --projected-w FILE")
    space = opened_space(chosen)
    from facegen.latents.generate import Wanted, class_of, pictures_of_files, pictures_of_seeds, save_pictures

    if projected_w:
        if seeds is not None:
            say("Note: --seeds is ignored; the faces come from --projected-w", err=True)
        pictures = list(pictures_of_files(space, projected_w, only_label(space, chosen)))
    else:
        pictures = list(pictures_of_seeds(space, seeds or [], chosen_labels(space, chosen)))
    if labels_json:
        class_of(pictures[0])
    for path in save_pictures(space, pictures, outdir, Wanted(grid, save_latents, labels_json)):
        say(str(path))
