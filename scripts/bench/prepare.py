"""Print how many pictures `facegen prepare` works through per second, beside Pillow alone on the same files.

The floor is a plain loop of Pillow: decode the picture, resize it by Lanczos, encode it as PNG. What facegen adds
(headers, hashes, refusals, finding faces) costs on top, so ratios compare across machines. Each line is the best of
several rounds in which all take turns, so that a noisy moment hits all alike.

    .venv/bin/python scripts/bench/prepare.py
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image

from facegen.container import Container, is_image_name
from facegen.data.crops import Cropped, crop_pictures
from facegen.data.options import CropOptions
from facegen.parallel import count_cores, map_in_order

BATCH = 32  # pictures that a thread takes at a time
Batch = list[tuple[str, bytes]]


def sample_pictures(count: int) -> Batch:
    """Make square JPEGs of matplotlib's sample face, tinted, mirrored, 200 to 600 pixels wide."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        head = Image.open(file).convert("RGB").crop((76, 30, 456, 410))
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        side = int(rng.integers(200, 600))
        image = head.resize((side, side), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tinted = np.asarray(image) * rng.uniform(0.7, 1.0, 3) + rng.normal(0, 3, (side, side, 1))
        buffer = io.BytesIO()
        Image.fromarray(tinted.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        made.append((f"{index}.jpg", buffer.getvalue()))
    return made


def read_pictures(source: Path, count: int) -> Batch:
    """Read the first pictures of a folder or zip into memory: the disk is not what is measured."""
    files = Container(source)
    names = [name for name in files.names if is_image_name(name)]
    return [(name, files.read(name)) for name in names[:count]]


def bare(batch: Batch, resolution: int) -> int:
    """Decode, resize and encode with Pillow alone; how many came out."""
    for _, data in batch:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image.resize((resolution, resolution), Image.Resampling.LANCZOS).save(io.BytesIO(), "PNG")
    return len(batch)


def cropped(batch: Batch, options: CropOptions) -> int:
    """Crop as `facegen prepare` does; how many came out."""
    data = dict(batch)
    return sum(isinstance(result, Cropped) for result in crop_pictures(list(data), data.__getitem__, options))


def seconds(work: Callable[[Batch], int], batches: list[Batch], threads: int) -> tuple[float, int]:
    """Work through all batches on this many threads; the time it took, and how many pictures came out."""
    begin = time.perf_counter()
    done = sum(map(work, batches) if threads == 1 else map_in_order(work, batches))
    return time.perf_counter() - begin, done


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--count", default=128, show_default=True, help="How many pictures.")
@click.option("--resolution", default=64, show_default=True, help="Side of the crops in pixels.")
@click.option("--rounds", default=3, show_default=True, help="How often; the best counts.")
def main(source: Path | None, count: int, resolution: int, rounds: int) -> None:
    """Measure cropping on the pictures in SOURCE, a folder or zip; on pictures made up for it if left out.

    \b
    Example:
      python scripts/bench/prepare.py UTKFace.zip --count 240 --resolution 128
    """
    import torch

    pictures = read_pictures(source, count) if source else sample_pictures(count)
    if not pictures:
        raise click.ClickException(f"{source}: there is no picture in it")
    batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
    works: dict[str, Callable[[Batch], int]] = {
        "Pillow alone": lambda batch: bare(batch, resolution),
        "as-is": lambda batch: cropped(batch, CropOptions("as-is", resolution)),
        "center": lambda batch: cropped(batch, CropOptions("center", resolution)),
        "align": lambda batch: cropped(batch, CropOptions("align", resolution)),
    }
    torch.set_num_threads(1)
    for work in works.values():  # imports, weights, first calls
        work(batches[0][:4])
    cores = count_cores()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    sides = [Image.open(io.BytesIO(data)).width for _, data in pictures]
    click.echo(f"{len(pictures)} pictures, {min(sides)} to {max(sides)} pixels wide, to {resolution}")
    click.echo(f"{cores} cores, {where}")
    click.echo(f"{'':14s}{'threads':>8s}{'pictures/s':>12s}{'per core':>10s}{'ratio':>7s}{'came out':>10s}")
    for threads in sorted({1, cores}):
        times: dict[str, tuple[float, int]] = {}
        for _ in range(rounds):
            for name, work in works.items():
                times[name] = min(times.get(name, (float("inf"), 0)), seconds(work, batches, threads))
        for name, (taken, done) in times.items():
            rate = len(pictures) / taken
            ratio = times["Pillow alone"][0] / taken
            click.echo(f"{name:14s}{threads:8d}{rate:12.1f}{rate / threads:10.1f}{ratio:7.2f}{done:10d}")


if __name__ == "__main__":
    main()
