"""Time a walk through ages, frames and video written, beside drawing the same pictures alone, in turns.

    .venv/bin/python scripts/bench/walk.py --threads 2
    .venv/bin/python scripts/bench/walk.py --threads 2 --video-alone

The ratio is bare drawing's time by the walk's: 1 would be writing that costs nothing.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import click
import torch

from facegen.latents.frames import save_frames
from facegen.latents.options import VideoOptions, WalkOptions
from facegen.latents.space import LatentSpace
from facegen.latents.walks.tours import Keys, plan_tours


def walk_seconds(
    space: LatentSpace, frames: int, outdir: Path, video: VideoOptions
) -> tuple[float, list[torch.Tensor]]:
    """How long all of `facegen walk --seeds 7 --age 5:90` takes once the network is loaded; and its w."""
    ws, start = [], time.perf_counter()
    keys = Keys([7], labels=[space.classes.of_age(5), space.classes.of_age(90)])
    (tour,) = plan_tours(space, WalkOptions(frames=frames), keys)
    kept = (ws.append(w) or w for w in tour.ws)
    save_frames(space.draw(kept), tour.total, outdir, tour.name, video, tour.name)
    return time.perf_counter() - start, ws


def bare_seconds(space: LatentSpace, ws: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    for _ in space.draw(ws):
        pass
    return time.perf_counter() - start


@click.command()
@click.option("--network", help="A generator to use instead of the one in the package.")
@click.option("--frames", default=240, show_default=True, help="Frames of a walk.")
@click.option("--rounds", default=7, show_default=True, help="Walks; the first does not count.")
@click.option("--threads", default=2, show_default=True, help="Threads of PyTorch.")
@click.option("--video-alone", is_flag=True, help="Do not keep frames.")
def main(network: str | None, frames: int, rounds: int, threads: int, video_alone: bool) -> None:
    """Print the median frames per second of both, and their ratio."""
    torch.set_num_threads(threads)
    space = LatentSpace.open(network, device="cpu")
    times, video = [], VideoOptions(keep_frames=not video_alone)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            seconds, ws = walk_seconds(space, frames, Path(folder), video)
            times.append((seconds, bare_seconds(space, ws)))
    walk, bare = (frames / median(row[index] for row in times[1:]) for index in (0, 1))
    ratio = median(bare / walk for walk, bare in times[1:])
    click.echo(f"bare {bare:.0f} frames/s, walk {walk:.0f} frames/s: {ratio:.2f} as fast")


if __name__ == "__main__":
    main()
