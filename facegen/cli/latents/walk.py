"""`facegen walk`: videos of walks through the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.cli.latents import (
    chosen_labels,
    class_options,
    labels_or_usual,
    opened_space,
    outdir_option,
    space_options,
)
from facegen.latents.options import LOOPS, VideoOptions, WalkOptions, parse_way_of_ages
from facegen.latents.seeds import parse_way
from facegen.options import Parsed, click_options
from facegen.status import say, status

if TYPE_CHECKING:
    from facegen.latents.labels import Label
    from facegen.latents.space import LatentSpace


@click.command()
@click.option("--seeds", type=Parsed(parse_way), metavar="SEEDS", help="Numbers of the faces, such as 85,265,297-299.")
@click.option(
    "--projected-w",
    multiple=True,
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Also visit latents from a file, such as one from facegen project. They come before the seeds. May "
    "be repeated.",
)
@outdir_option("files")
@click.option(
    "--age",
    type=Parsed(parse_way_of_ages),
    metavar="YEARS",
    help="Ages to go through, such as 5:90, 5:90:5 or 20,60,40; or one age for all, such as 35.",
)
@class_options
@click_options(WalkOptions, VideoOptions)
@space_options
def command(seeds: list[int] | None, projected_w: tuple[Path, ...], outdir: Path, **chosen: Any) -> None:
    """Make a video that goes from face to face, or through the ages of one face.

    One seed with several ages or classes gives one face that goes through them. Several seeds with several ages or
    classes give one video each, in folders such as seed0007. Several seeds of one class give one walk from face to
    face. One seed without a class goes from the youngest class to the oldest.

    There are --frames frames from each key to the next. Every step begins with its key, and the last frame is the last
    key. Frames are called frames/frame0000.png and so on; the video is named after what it shows. Results of an earlier
    run are replaced.

    --process truncation shows each face with truncation from --start to --stop, both included; below 0 is the opposite
    face. interpolation-truncation does both at once. The two loops go through z: circularloop in the plane of three
    --seeds or of a --random-seed, noiseloop by --random-seed alone.

    \b
    Example:
      facegen walk --seeds 7 --age 5:90
      facegen walk --seeds 85,265,297 --age 30 --loop --frames 48 --easing easeInOutQuad
      facegen walk --seeds 7 --class all --video gif --frames 12
      facegen walk --interpolation circularloop --random-seed 42 --group 21-30
      facegen walk --process truncation --seeds 85 --start -1 --stop 2 --increment 0.02
      facegen walk --projected-w me.npz --projected-w you.npz --interpolation slerp
    """
    options, video = WalkOptions.from_command(chosen), VideoOptions.from_command(chosen)
    is_loop = options.process != "truncation" and options.interpolation in LOOPS
    if not (seeds or projected_w or is_loop):
        raise click.UsageError("name the faces to visit: --seeds 1,5, or --projected-w FILE")
    if seeds and is_loop and options.interpolation == "noiseloop":
        say("Note: --seeds is ignored; a noise loop uses --random-seed", err=True)
        seeds = None
    with status("loading the network ..."):
        from facegen.latents.frames import check_frames, save_frames
        from facegen.latents.walks.tours import Keys, plan_tours

        check_frames(video, outdir)
    space = opened_space(chosen)
    labels = _labels(space, chosen, seeds or (), projected_w, options)
    tours = plan_tours(space, options, Keys(seeds or (), projected_w, labels))
    for tour in tours:
        name, folder = f"{tour.name}-{video.fps:g}fps", outdir / tour.folder
        for path in save_frames(space.draw(tour.ws), tour.total, folder, name, video, f"a walk, {tour.name}"):
            say(str(path))


def _labels(
    space: LatentSpace, chosen: dict[str, Any], seeds: Sequence[int], files: Sequence[Path], options: WalkOptions
) -> list[Label]:
    """The labels asked for; where none are: none of files, all ages or classes of one face, else the usual class."""
    classes = space.classes
    if classes.c_dim == 0 or any(chosen[name] is not None for name in ("classes", "group", "age")):
        return chosen_labels(space, chosen)
    if files and not seeds:
        return []
    if len(set(seeds)) != 1 or files or options.process == "truncation" or options.interpolation in LOOPS:
        return labels_or_usual(space, chosen)
    if classes.groups is None:
        return chosen_labels(space, chosen)
    ages = [classes.groups.middle_age(index) for index in (0, classes.c_dim - 1)]
    say(f"Note: no age given, so the face goes from {ages[0]} to {ages[1]} years", err=True)
    return classes.choose(ages=ages)
