"""How well a judge of identities tells people apart: the similarity of faces to changed copies, and to other people.

python scripts/check_identity_judge.py held.zip --faces 50
"""

from __future__ import annotations

import click
import numpy as np
import torch
from torch.nn import functional

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.evaluation.judges import load_identity_judge
from facegen.evaluation.photos import load_photos
from facegen.faces.template import UTKFACE_TEMPLATE


def changed(faces: torch.Tensor) -> dict[str, torch.Tensor]:
    """Copies of faces float `[N, 3, S, S]`, levels 0..255, in which the person is the same."""
    size = faces.shape[-1]
    small = functional.interpolate(faces, (size // 2, size // 2), mode="bilinear", antialias=True)
    padded = functional.pad(faces, (1, 1, 1, 1), mode="replicate")
    return {
        "itself in a mirror": faces.flip(3),
        "turned by 3 degrees, 5 % larger, shifted by 3 %": warped(faces, degrees=3, scale=0.95, shift=0.06),
        "25 % brighter": faces * 1.25,
        "blurred (mean of 3x3 pixels)": functional.avg_pool2d(padded, 3, 1),
        "reduced to half its size": functional.interpolate(small, (size, size), mode="bicubic"),
    }


def warped(faces: torch.Tensor, *, degrees: float, scale: float, shift: float) -> torch.Tensor:
    """Faces seen through a turned and shifted window of `scale` their size; `shift` is in halves of the side."""
    angle = np.deg2rad(degrees)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = torch.tensor([[cosine, -sine, shift], [sine, cosine, shift]], dtype=torch.float32)
    grid = functional.affine_grid(matrix.expand(len(faces), -1, -1), faces.shape, align_corners=False)
    return functional.grid_sample(faces, grid, mode="bicubic", padding_mode="border", align_corners=False)


@click.command()
@click.argument("archive")
@click.option("--faces", "count", default=50, show_default=True, help="How many, evenly of the age groups.")
@click.option("--id-judge", metavar="dlib|vggface2|FILE", help="As for facegen evaluate.")
@click.option("--seed", default=0, show_default=True, help="Seeds the draw.")
def main(archive: str, count: int, id_judge: str | None, seed: int) -> None:
    """Print percentiles of the judge's cosine similarity on the faces of a training archive."""
    opened = FaceArchive(archive)
    template = opened.template or UTKFACE_TEMPLATE
    photos = load_photos(
        archive,
        size=opened.resolution,
        template=template,
        groups=opened.groups or AgeGroups.default(),
        limit=count,
        seed=seed,
    )
    faces = photos.images[: photos.tested].float()
    judge = load_identity_judge(id_judge, template)
    own = judge.features(photos.images[: photos.tested])
    click.echo(f"{'the face, and':<50}   5 %   50 %   95 %")
    for name, copies in changed(faces).items():
        features = judge.features(copies.clamp(0, 255).round().to(torch.uint8))
        show(name, (own * features).sum(dim=1).numpy())
    between = (own @ own.T).numpy()
    show("other people", between[~np.eye(len(between), dtype=bool)])
    np.fill_diagonal(between, -1)
    show("the most similar of the others", between.max(axis=1))


def show(name: str, cosines: np.ndarray) -> None:
    """Print a line of percentiles."""
    click.echo(f"{name:<50}" + "".join(f"{value:7.3f}" for value in np.percentile(cosines, [5, 50, 95])))


if __name__ == "__main__":
    main()
