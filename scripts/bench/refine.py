"""Time the refinement of faces and judge what it reaches, beside an earlier version of it or other numbers of steps.

    git show d9cbe75:facegen/aging/refine.py > before.py
    OMP_NUM_THREADS=1 .venv/bin/python scripts/bench/refine.py grace_hopper.jpg utkface_original_240.zip --seed 1 \
        --variant facegen/aging/refine.py=150 --variant before.py=150

A variant is a file like facegen/aging/refine.py and a number of steps, and may set constants: `=125,TUNE_LR=2e-3`.
Variants take turns with each face, so that a busy machine is busy for all of them. Whatever the variant, the final
objective is what the tuning of facegen/aging/refine.py minimizes: over all ages instead of one a step, and over 64
faces to hold that no step has seen.
"""

from __future__ import annotations

import importlib.util
import io
import time
import zipfile
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from PIL import Image
from torch import nn

from facegen import AgeTransfer
from facegen.aging import refine as judge
from facegen.aging.edit import Edit
from facegen.errors import FacegenError
from facegen.evaluation.judges import load_identity_judge
from facegen.faces.align import align_face
from facegen.faces.find import find_faces
from facegen.figures.grids import save_image_grid
from facegen.images import open_photo
from facegen.weights.load import load_age_estimator
from facegen.weights.locate import shipped_file

AGES = [5, 15, 25, 35, 45, 55, 65, 75, 85]
HELD = 64
COLUMNS = (
    "seconds a face",
    "of CPU",
    "final objective",
    "of it face and age",
    "MSE of held faces",
    "MSE of the face",
    "drift of ages",
    "error of ages",
    "by the judge",
    "identity of the face",
    "of the aged",
)


def read_faces(paths: tuple[Path, ...], transfer: AgeTransfer, count: int, seed: int) -> list[Image.Image]:
    """Find `count` faces: first those of the photos, then those of random pictures of the archives."""
    sources: list[tuple[Path, str | None]] = [(path, None) for path in paths if path.suffix != ".zip"]
    for path in paths:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png", ".webp")))
            sources += [(path, names[i]) for i in np.random.default_rng(seed).permutation(len(names))]
    faces: list[Image.Image] = []
    for path, name in sources:
        if name is None:
            photo = open_photo(path)
        else:
            with zipfile.ZipFile(path) as archive:
                photo = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
        found = find_faces(photo)[:1]
        faces += [align_face(photo, face, transfer.template, transfer.size) for face in found]
        if len(faces) == count:
            return faces
    raise click.ClickException(f"{len(faces)} faces found, {count} wanted")


def load_variant(text: str) -> tuple[ModuleType, int]:
    """Import the file of FILE=STEPS[,CONSTANT=NUMBER...] and set its constants; return it and the number of steps."""
    first, *settings = text.split(",")
    path, _, steps = first.rpartition("=")
    spec = importlib.util.spec_from_file_location(f"variant_{Path(path).stem}", path)
    if spec is None or spec.loader is None or not steps.isdigit():
        raise click.ClickException(f"{text!r} is not FILE.py=STEPS")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, _, value in (setting.partition("=") for setting in settings):
        if not hasattr(module, name):
            raise click.ClickException(f"{path} has no {name}")
        setattr(module, name, float(value))
    return module, int(steps)


class Judges:
    """Measures what became of a face."""

    def __init__(self, transfer: AgeTransfer) -> None:
        self.transfer = transfer
        self.age_judge = load_age_estimator(shipped_file("age_judge"))[0].eval()
        try:
            self.features = load_identity_judge(None, transfer.template, progress=False).features
        except FacegenError as error:
            click.echo(f"identity is not judged: {error}", err=True)
            self.features = None

    @torch.no_grad()
    def measure(self, goal: judge.Goal, tuned: nn.Module, pivot: torch.Tensor) -> tuple[list[float], torch.Tensor]:
        """Return the numbers of COLUMNS of one face, and the pictures: reconstruction and every age."""
        random = torch.Generator().manual_seed(12345)
        others = pivot.lerp(judge._random_ws(self.transfer.generator, HELD, random), 0.5)
        held = float((judge.draw(tuned, others) - judge.draw(self.transfer.generator, others)).square().mean())
        drawn = judge.draw(tuned, torch.cat([pivot, pivot + goal.moves[0]]))
        pixels = float((drawn[:1] - goal.faces).square().mean())
        loss = float(np.mean([float(goal.loss(drawn[[0, 1 + age]], age)) for age in range(len(AGES))]))
        ages = self.transfer.age_estimator.predict(drawn[1:])
        drift = float((ages - goal.ages[0]).abs().mean())
        errors = [(years - torch.tensor(AGES)).abs().mean() for years in (ages, self.age_judge.predict(drawn[1:]))]
        similarity = [float("nan")] * 2
        if self.features is not None:
            shown = torch.cat([goal.faces, drawn[:1], drawn[2::2]])
            found = self.features(((shown.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
            similarity = [float(found[0] @ found[1]), float((found[2:] @ found[0]).mean())]
        numbers = [loss + judge.HOLD * held, loss, held, pixels, drift, *map(float, errors), *similarity]
        return numbers, drawn.clamp(-1, 1)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--variant", "variants", multiple=True, required=True, metavar="FILE=STEPS[,CONSTANT=NUMBER...]")
@click.option("--faces", "count", default=20, show_default=True, help="How many faces.")
@click.option("--seed", default=0, show_default=True, help="Which pictures of an archive.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw a row per face and variant.")
def main(paths: tuple[Path, ...], variants: tuple[str, ...], count: int, seed: int, picture: Path | None) -> None:
    """Refine the faces of PATHS, photos and archives of pictures, by every variant."""
    transfer = AgeTransfer.from_files(device="cpu")
    judges, loaded = Judges(transfer), [load_variant(text) for text in variants]
    faces = transfer.to_tensor(read_faces(paths, transfer, count, seed))
    with torch.no_grad():
        latents = transfer.encoder(faces)
        own = transfer._estimate_ages(faces, latents)
        start = transfer.latent_ages.place(latents, own)
        moves = transfer.latent_ages.steps(latents, own, torch.tensor(AGES, dtype=torch.float32), Edit())
    numbers = np.zeros([len(loaded), count, len(COLUMNS)])
    rows: list[torch.Tensor] = []
    for module, _ in loaded:  # the first call of anything takes longer
        module.refine(transfer.generator, faces[:1], start[:1], steps=5, estimator=transfer.age_estimator)
    for index in range(count):
        one = slice(index, index + 1)
        goal = judge.Goal(transfer.generator, faces[one], start[one], moves[one], transfer.age_estimator)
        for turn, (module, steps) in enumerate(loaded):
            began, began_cpu = time.perf_counter(), time.process_time()
            pivots, (tuned,) = module.refine(
                transfer.generator,
                faces[one],
                start[one],
                steps=steps,
                moves=moves[one],
                estimator=transfer.age_estimator,
            )
            seconds = time.perf_counter() - began, time.process_time() - began_cpu
            measured, drawn = judges.measure(goal, tuned, pivots)
            numbers[turn, index] = [*seconds, *measured]
            rows += [faces[index], *drawn]
            short = [f"{value:.4g}" for value in numbers[turn, index]]
            click.echo(f"face {index} {variants[turn]} {' '.join(short)}", err=True)
    click.echo(f"{count} faces, {torch.get_num_threads()} threads; means, then the difference to the last variant")
    click.echo("| variant | " + " | ".join(COLUMNS) + " |")
    click.echo("| --- |" + " ---: |" * len(COLUMNS))
    for text, mine in zip(variants, numbers, strict=True):
        click.echo(f"| {text} | " + " | ".join(f"{value:.4g}" for value in mine.mean(axis=0)) + " |")
    for text, mine in zip(variants[:-1], numbers[:-1], strict=True):
        gaps = mine - numbers[-1]
        errors = gaps.std(axis=0, ddof=1) / np.sqrt(count)
        parts = [f"{gap:+.2g} ± {error:.1g}" for gap, error in zip(gaps.mean(axis=0), errors, strict=True)]
        ratios = np.median(mine[:, :2] / numbers[-1, :, :2], axis=0)
        parts[:2] = [f"× {ratio:.3f}" for ratio in ratios]  # of one face, its median
        click.echo(f"| {text} | " + " | ".join(parts) + " |")
    if picture is not None:
        tiles = [((row + 1) * 127.5).round().byte().permute(1, 2, 0).numpy() for row in rows]
        save_image_grid(tiles, picture, 2 + len(AGES))


if __name__ == "__main__":
    main()
