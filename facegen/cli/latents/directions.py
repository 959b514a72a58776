"""`facegen directions`: find the directions that change pictures most, and move faces along them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.cli import encoder_option, network_option
from facegen.cli.latents import label_options, labels_or_usual, only_label, opened_space, outdir_option, space_options
from facegen.errors import FacegenError
from facegen.latents.options import ORDERS, DrawingOptions, MovingOptions, TruncationOptions
from facegen.latents.seeds import parse_seeds
from facegen.options import Parsed, click_options
from facegen.status import say, status
from facegen.text import number_range, shorten

if TYPE_CHECKING:
    import numpy as np

    from facegen.latents.directions.move import Mover
    from facegen.latents.generate import Picture
    from facegen.latents.space import LatentSpace

MAX_VIDEOS = 24  # more need --yes
MAX_INDEX = 999_999  # no network has a w as long as that
DRAWN = 10_000  # seeds are drawn below it: short enough to be written down


@click.group()
def command() -> None:
    """Find directions in a generator's latent space, and move faces along them.

    \b
    Example:
      facegen directions find --layers coarse --out coarse.pt
      facegen directions apply coarse.pt --index 0-4 --seeds 10,20
    """


@command.command()
@network_option
@click.option(
    "--out",
    default="factor.pt",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Output file: .pt, .safetensors or .npz.",
)
@click.option(
    "--layers",
    metavar="LAYERS",
    help="Use only these layers: coarse, middle, fine, or numbers such as 0-3,7.  [default: all]",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="Number directions as the authors of SeFa do, or as dvschultz's fork does.",
)
def find(network: str | None, out: Path, layers: str | None, order: str) -> None:
    """Find directions in w, strongest first, and write them to a file.

    The directions are eigenvectors of the generator's own weights (SeFa, Shen & Zhou 2021). This takes a second. You
    have to draw faces to see what a direction changes. Directions for fewer layers change fewer things at once.

    \b
    Example:
      facegen directions find --layers coarse --out coarse.pt
      facegen directions find --network ffhq1024 --order fork --out factor.pt
    """
    with status("loading the network ..."):
        from facegen.aging.edit import layer_indices
        from facegen.latents.directions.files import Factor, check_suffix, save_factor
        from facegen.latents.directions.find import directions
        from facegen.weights.load import load_generator
        from facegen.weights.locate import shipped_file

        check_suffix(out)
        file = shipped_file("generator") if network is None else network
        generator, _ = load_generator(file)
    vectors = directions(generator, layers, order)
    chosen = None if layers is None else tuple(layer_indices(layers, generator.num_ws))
    say(str(save_factor(out, Factor(vectors, Path(file).name, chosen))))
    say(
        f"{vectors.shape[1]} directions in a w of {vectors.shape[0]}: look at them with facegen directions apply",
        err=True,
    )


def parse_seeds_or_draw(text: str) -> list[int]:
    """Read seeds, or `r3` for three that are drawn, and said; raises a FacegenError for anything else."""
    match = re.fullmatch(r"r(\d{1,6})", text.strip())
    if match is None:
        return parse_seeds(text)
    if not 1 <= int(match[1]) <= DRAWN:
        raise FacegenError(f"seeds {text}: draw 1 to {DRAWN:,}")
    seeds = random.Random().sample(range(DRAWN), int(match[1]))
    say(f"Seeds: {','.join(map(str, seeds))}", err=True)
    return seeds


def parse_index(text: str) -> list[int]:
    """Read which directions: `0-4,7`, or -1 for all, an empty list; raises a FacegenError for anything else."""
    if text.strip() == "-1":
        return []
    numbers: dict[int, None] = {}
    for part in text.split(","):
        chosen = number_range(part)
        if not chosen or chosen[-1] > MAX_INDEX:
            words = shorten(part.strip(), 40)
            raise FacegenError(f"{words!r} names no directions: write numbers from 0, as in 0-4,7, or -1 for all")
        numbers |= dict.fromkeys(chosen)
    return list(numbers)


@command.command()
@click.argument("factor", type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--index",
    type=Parsed(parse_index),
    default="-1",
    show_default=True,
    metavar="NUMBERS",
    help="Numbers of the directions, counted from 0, such as 0-4,7; -1 for all.",
)
@click.option(
    "--seeds",
    type=Parsed(parse_seeds_or_draw),
    metavar="SEEDS",
    help="Numbers of the faces, such as 0-3,7; r3 picks three at random.  [default: r1]",
)
@click.option(
    "--projected-w",
    multiple=True,
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="Move latents from a file, such as one from facegen project. May be repeated.",
)
@click.option(
    "--photo",
    metavar="PHOTO",
    type=click.Path(path_type=Path),
    help="Move the faces of a photo, as the encoder sees them.",
)
@click.option(
    "-d",
    "--degree",
    type=float,
    default=2.0,
    show_default=True,
    help="How far to move, in standard deviations of all faces along the direction. Beyond 3, faces break.",
)
@label_options
@click_options(MovingOptions)
@click.option(
    "--video/--no-video",
    help="Also write a video for each face and direction: mp4, or GIF if imageio-ffmpeg is missing.",
)
@click.option("--yes", is_flag=True, help=f"Allow more than {MAX_VIDEOS} videos.")
@outdir_option("pictures", "output")
@encoder_option
@space_options
def apply(
    factor: Path,
    index: list[int],
    seeds: list[int] | None,
    projected_w: tuple[Path, ...],
    photo: Path | None,
    video: bool,
    yes: bool,
    outdir: Path,
    encoder: str | None,
    **chosen: Any,
) -> None:
    """Move faces along the directions in FACTOR, a file from facegen directions find or another program's factor.pt.

    Writes seed-85_index-0-4_degree-2.png for each face: a row per direction, with the face moved backward, unchanged,
    and moved forward. --video adds seed-85/index-0/seed-85_index-0_degree-2.mp4 and its frames.

    \b
    Example:
      facegen directions apply coarse.pt --index 0-4 --seeds 10,20 --age 35
      facegen directions apply factor.pt -i 3 -d 2.5 --seeds r3 --layers middle
      facegen directions apply coarse.pt --index 0 --seeds 7 --video
      facegen directions apply coarse.pt --index 0-7 --photo photo.jpg
    """
    moving = MovingOptions.from_command(chosen)
    if moving.space == "z" and (projected_w or photo):
        raise click.UsageError("latents from files and photos have no z to move: leave out --space z")
    if sum(map(bool, (seeds, projected_w, photo))) > 1:
        raise click.UsageError("name faces in one way: --seeds, --projected-w or --photo")
    with status("loading the network ..."):
        from facegen.latents.directions.files import read_factor
        from facegen.latents.directions.move import Mover, save_sheet, save_videos

        content = read_factor(factor)
    if photo is not None:
        faces, space = _faces_of_photo(photo, encoder, chosen)
    else:
        space = opened_space(chosen)
        faces = [(face, None) for face in _faces(space, seeds, projected_w, chosen)]
    mover = Mover(space, content, index, moving)
    if video:
        _check_videos(mover, len(faces), outdir, yes)
    for face, cut in faces:
        say(str(save_sheet(mover, face, outdir, cut)))
        for path in save_videos(mover, face, outdir) if video else ():
            say(str(path))


def _check_videos(mover: Mover, faces: int, outdir: Path, yes: bool) -> None:
    """Raise a FacegenError if videos cannot be written, or are more than people expect."""
    from facegen.latents.frames import check_frames
    from facegen.latents.options import VideoOptions

    count, frames = faces * len(mover.index), len(mover.amounts())
    if count > MAX_VIDEOS and not yes:
        raise FacegenError(
            f"this makes {count:,} videos of {frames:,} frames: choose fewer with --index, or give --yes"
        )
    check_frames(VideoOptions(), outdir)


def _faces(
    space: LatentSpace, seeds: list[int] | None, files: tuple[Path, ...], chosen: dict[str, Any]
) -> Iterator[Picture]:
    """The faces of files or of seeds, which are called `seed-85`, and `seed-85-age70` of several classes or ages."""
    from dataclasses import replace

    from facegen.latents.generate import pictures_of_files, pictures_of_seeds

    if files:
        yield from pictures_of_files(space, files, only_label(space, chosen))
        return
    labels = labels_or_usual(space, chosen)
    for face in pictures_of_seeds(space, seeds or parse_seeds_or_draw("r1"), labels):
        yield replace(face, name=f"seed-{face.seed}" + f"-{face.column}" * (len(labels) > 1))


def _faces_of_photo(
    photo: Path, encoder: str | None, chosen: dict[str, Any]
) -> tuple[list[tuple[Picture, np.ndarray | None]], LatentSpace]:
    """The faces in a photo with the pictures that were cut from it, and the space in which the encoder places them."""
    if any(chosen[name] is not None for name in ("classes", "group", "age")):
        say("Note: a face from a photo keeps the age that it looks; other class and age options are ignored", err=True)
    with status("loading the networks ..."):
        from facegen.aging.transfer import AgeTransfer
        from facegen.latents.directions.encoded import faces_of_photo
        from facegen.latents.space import LatentSpace

        network, groups, device = (chosen[name] for name in ("network", "groups", "device"))
        transfer = AgeTransfer.from_files(network, encoder, groups=groups, device=device)
        space = LatentSpace(
            transfer.generator,
            groups=transfer.groups,
            truncation=TruncationOptions.from_command(chosen),
            drawing=DrawingOptions.from_command(chosen),
            device=transfer.device,
        )
        return list(faces_of_photo(transfer, space, photo)), space
