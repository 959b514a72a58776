"""How good the faces are that generators make in each age group: of that age, real-looking, and unlike each other.

python scripts/check_generators.py --data utkface64-train.zip base=runs/00000-... balanced=runs/00001-...
"""

from __future__ import annotations

import click
import numpy as np
import torch
from torch import nn

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.evaluation.age import group_of_years
from facegen.evaluation.judges import load_age_judge, load_identity_judge
from facegen.evaluation.realism import realism_scores
from facegen.faces import UTKFACE_TEMPLATE
from facegen.metrics.evaluate import quantize
from facegen.weights.load import load_generator

BATCH = 50


def generated(generator: nn.Module, count: int, seed: int) -> list[torch.Tensor]:
    """Faces uint8 `[count, 3, S, S]` of every class, of the same z."""
    z = torch.randn([count, generator.z_dim], generator=torch.Generator().manual_seed(seed))
    faces = []
    with torch.no_grad():
        for label in torch.eye(generator.c_dim):
            parts = [generator(part, label.expand(len(part), -1), noise_mode="const") for part in z.split(BATCH)]
            faces.append(quantize(torch.cat(parts)))
    return faces


def spread(features: torch.Tensor) -> float:
    """Mean distance (1 - cosine) of two different faces, whose features have length 1."""
    count = len(features)
    cosines = features @ features.T
    return 1 - float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def scaled(features: torch.Tensor) -> torch.Tensor:
    """Features of length 1 as the kernel distance wants them: numbers about 1, as in `facegen evaluate`."""
    return features * features.shape[1] ** 0.5


@click.command()
@click.argument("generators", nargs=-1, required=True, metavar="NAME=FILE|RUN...")
@click.option("--data", required=True, metavar="ARCHIVE", help="Real faces to compare with: those of the training.")
@click.option("--faces", "count", default=150, show_default=True, help="Of each age group.")
@click.option("--id-judge", metavar="dlib|vggface2|FILE", help="As for facegen evaluate.")
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
def main(generators: tuple[str, ...], data: str, count: int, id_judge: str | None, seed: int) -> None:
    """Print Markdown tables, a row for each generator and one for real faces, a column for each age group."""
    archive = FaceArchive(data)
    groups = archive.groups or AgeGroups.default()
    age_judge, who = load_age_judge(), load_identity_judge(id_judge, archive.template or UTKFACE_TEMPLATE)
    order = np.random.default_rng(seed).permutation(len(archive))
    real = []
    for group in range(len(groups)):
        members = order[archive.labels[order] == group][: 2 * count]
        real.append(torch.from_numpy(np.stack([archive.image(int(index)) for index in members])).expand(-1, 3, -1, -1))
    reals = [who.features(images) for images in real]

    tables: dict[str, dict[str, list[str]]] = {"near": {}, "kernel": {}, "spread": {}}

    def judge(name: str, faces: list[torch.Tensor], features: list[torch.Tensor]) -> None:
        steps = [
            np.abs(group_of_years(age_judge.predict(images), groups) - group) for group, images in enumerate(faces)
        ]
        near = [float((step <= 1).mean()) for step in steps]
        tables["near"][name] = [f"{share:.0%}" for share in [float(np.mean(near)), *near]]
        spreads = [spread(found) / spread(real) for found, real in zip(features, reals, strict=True)]
        tables["spread"][name] = [f"{share:.0%}" for share in [float(np.mean(spreads)), *spreads]]

    for text in generators:
        name, _, reference = text.rpartition("=")
        generator, _ = load_generator(reference)
        faces = [images.expand(-1, 3, -1, -1) for images in generated(generator, count, seed)]
        features = [who.features(images) for images in faces]
        judge(name or reference, faces, features)
        every, each = realism_scores([scaled(found) for found in features], list(map(scaled, reals)), seed=seed)
        tables["kernel"][name or reference] = [f"{1000 * found.kernel:.1f}" for found in [every, *each]]
        tables["kernel"]["real faces"] = [f"{1000 * found.real_kernel:.1f}" for found in [every, *each]]
    judge("real faces", real, reals)

    titles = {
        "near": "Judged in the age group or one next to it",
        "kernel": "Kernel distance to real faces of the group, in thousandths",
        "spread": "Distance between two faces of the group, 100 % as of real ones",
    }
    for key, title in titles.items():
        click.echo(f"\n{title}:\n\n| | all | {' | '.join(groups.labels)} |\n|---|{'---:|' * (len(groups) + 1)}")
        rows = tables[key]
        for name in [*(name for name in rows if name != "real faces"), "real faces"]:
            click.echo(f"| {name} | {' | '.join(rows[name])} |")


if __name__ == "__main__":
    main()
