"""`facegen faces`: the faces in photos, cut out and listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.cli import device_option
from facegen.errors import one_line
from facegen.faces.options import FaceOptions
from facegen.options import click_options
from facegen.status import say, status

if TYPE_CHECKING:
    from facegen.faces.collect import Found
    from facegen.weights.face_network import FaceNetwork

FEW = 8  # faces whose distances are shown; the table has them all


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path))
@click.option(
    "--outdir", default="faces", show_default=True, type=click.Path(path_type=Path), help="Folder for the faces."
)
@click_options(FaceOptions)
@click.option("--recursive", is_flag=True, help="Also use the pictures in subfolders.")
@click.option(
    "--embeddings",
    metavar="FILE.npz",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a vector for each face. Vectors of the same person are close together.",
)
@click.option(
    "--compare", is_flag=True, help="Show the distances between these vectors, and write them to distances.csv."
)
@click.option(
    "--face-network",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The network that makes the vectors.  [default: facenet-pytorch's VGGFace2 network, 107 MB, downloaded once]",
)
@device_option
def command(
    photos: tuple[Path, ...],
    outdir: Path,
    recursive: bool,
    embeddings: Path | None,
    compare: bool,
    face_network: Path | None,
    device: str | None,
    **chosen: Any,
) -> None:
    """Find the faces in photos: write a crop of each face and where it is.

    PHOTO may also be a folder of pictures. Writes PHOTO-face1.png, PHOTO-face2.png and so on, largest face first, and
    faces.json and faces.csv with the box, probability and five landmarks of each face, in pixels of the upright photo.
    A photo that cannot be read is reported, the others are processed, and the exit code is 1. Ctrl-C stops; the lists
    then cover what was done.

    \b
    Example:
      facegen faces photo.jpg --outdir faces
      facegen faces photos/ --plain --margin 0.1 --select largest --size 160
      facegen faces one.jpg other.jpg --compare --embeddings people.npz
    """
    if outdir.exists() and not outdir.is_dir():
        raise click.UsageError(f"--outdir {outdir} is a file; name a folder")
    if face_network is not None and not (compare or embeddings):
        raise click.UsageError("--face-network is for --embeddings and --compare")
    options = FaceOptions.from_command(chosen)
    with status("loading the networks ..."):
        from facegen.batch.sources import sources_in
        from facegen.device import pick_device
        from facegen.faces.collect import write_lists
        from facegen.faces.mtcnn import Detector

        sources = sources_in(photos, outdir, recursive=recursive)
        detector = Detector(pick_device(device), options.thresholds, options.factor)
    network = _load(face_network, device) if compare or embeddings else None
    found, stopped = _find_all(sources, outdir, options, detector, network)
    say(*map(str, write_lists(outdir, found)))
    if network is not None:
        _tell_apart(found, outdir, network, embeddings, compare)
    if stopped:
        say(f"Stopped: {len(found)} of {len(sources)} photos are done.", err=True)
        raise click.exceptions.Exit(130)
    if any(one.error is not None for one in found):
        raise click.exceptions.Exit(1)


def _load(file: Path | None, device: str | None) -> FaceNetwork:
    from facegen.device import pick_device
    from facegen.metrics.features import locate_weights
    from facegen.weights.face_network import load_face_network
    from facegen.weights.facenet import VGGFACE2_URL

    network = load_face_network(locate_weights(file, VGGFACE2_URL, "--face-network"))
    network.network.to(pick_device(device))
    return network


def _find_all(sources: Sequence[Any], outdir: Path, *how: Any) -> tuple[list[Found], bool]:
    """Return what was found in the photos, and whether somebody stopped it."""
    from tqdm import tqdm

    from facegen.faces.collect import collect

    found: list[Found] = []
    bar = tqdm(total=len(sources), unit="photo", disable=len(sources) < 2)
    try:
        with bar:
            for one in collect(sources, outdir, *how):
                found.append(one)
                if one.error is not None:
                    say(f"Error: {one_line(one.error)}", err=True)
                elif not one.faces:
                    say(f"{one.source.path}: no face in it", err=True)
                else:
                    say(*map(str, one.pictures))
                bar.update()
    except KeyboardInterrupt:
        return found, True
    return found, False


def _tell_apart(
    found: Sequence[Found], outdir: Path, network: FaceNetwork, embeddings: Path | None, compare: bool
) -> None:
    """Write the vectors of all faces and their distances, as far as they are asked for."""
    import numpy as np

    from facegen.faces.embed import distances, embed, write_distances, write_vectors

    parts = [embed(network, one.inputs) for one in found if one.inputs is not None]
    if not parts:
        say("no face in any photo: nothing to compare", err=True)
        return
    vectors = np.concatenate(parts)
    names = [path.relative_to(outdir).as_posix() for one in found for path in one.pictures]
    if embeddings is not None:
        write_vectors(embeddings, names, [str(one.source.path) for one in found for _ in one.pictures], vectors)
        say(str(embeddings))
    if compare:
        apart = distances(vectors)
        write_distances(outdir / "distances.csv", names, apart)
        say(str(outdir / "distances.csv"))
        for name, row in list(zip(names, apart, strict=True))[:FEW]:
            say("  ".join(f"{value:.2f}" for value in row[:FEW]) + f"  {name}")
