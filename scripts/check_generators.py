"""How good the faces are that generators make in each age group: of that age, real-looking, and unlike each other.

python scripts/check_generators.py --data utkface64-train.zip base=runs/00000-... balanced=runs/00001-...
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from facegen.ages import AgeGroups
from facegen.cli import one_line
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.evaluation.age import group_of_years
from facegen.evaluation.judges import load_age_judge, load_identity_judge
from facegen.evaluation.realism import realism_scores, scale_unit_features
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.images import to_uint8
from facegen.weights.load import load_generator

BATCH = 50
REAL = "real faces"  # the last row


def generated(generator: nn.Module, count: int, seed: int) -> list[torch.Tensor]:
    """Faces uint8 `[count, 3, S, S]` of every class, of the same z."""
    z = torch.randn([count, generator.z_dim], generator=torch.Generator().manual_seed(seed))
    faces = []
    with torch.no_grad():
        for label in torch.eye(generator.c_dim):
            parts = [generator(part, label.expand(len(part), -1), noise_mode="const") for part in z.split(BATCH)]
            faces.append(to_uint8(torch.cat(parts)))
    return faces


def spread(features: torch.Tensor) -> float:
    """Mean distance (1 - cosine) of two different faces, whose features have length 1."""
    count = len(features)
    cosines = features @ features.T
    return 1 - float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def named(text: str) -> tuple[str, str]:
    """`NAME=FILE` as name and file; a file alone is called by its own name."""
    name, equals, reference = (part.strip() for part in text.partition("="))
    if not equals:
        path = Path(text)
        return (path.resolve().name if path.is_dir() else path.stem), text
    if not name or not reference:
        raise FacegenError(f"{text!r} names no generator: write NAME=FILE")
    return name, reference


def load_all(texts: tuple[str, ...], groups: AgeGroups) -> dict[str, nn.Module]:
    """The generators by name, in order; a FacegenError for those that cannot stand in one table."""
    pairs = [named(text) for text in texts]
    names = [REAL, *(name for name, _ in pairs)]
    if len(set(names)) < len(names):
        raise FacegenError(f"two rows have one name: {', '.join(names)}; give each generator its own: NAME=FILE")
    generators = {}
    for name, reference in pairs:
        generator, header = load_generator(reference)
        if generator.c_dim == 0:
            raise FacegenError(f"{reference}: this generator knows no age groups: train one with --cond")
        own = header.groups or AgeGroups.default()
        if generator.c_dim != len(own):
            raise FacegenError(f"{reference}: it has {generator.c_dim} classes, but there are {len(own)} age groups")
        if own != groups:
            raise FacegenError(f"{reference}: its age groups are {own}, those of the archive are {groups}")
        generators[name] = generator
    return generators


def real_faces(archive: FaceArchive, groups: AgeGroups, most: int, seed: int) -> list[torch.Tensor]:
    """Faces uint8 `[N, 3, S, S]` of every age group, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(archive))
    faces = []
    for group in range(len(groups)):
        members = order[archive.labels[order] == group][:most]
        faces.append(torch.from_numpy(np.stack([archive.image(int(i)) for i in members])).expand(-1, 3, -1, -1))
    return faces


@click.command()
@click.argument("generators", nargs=-1, required=True, metavar="NAME=FILE|RUN...")
@click.option("--data", required=True, metavar="ARCHIVE", help="Real faces to compare with: those of the training.")
@click.option("--faces", "count", type=click.IntRange(2), default=150, show_default=True, help="Of each age group.")
@click.option("--id-judge", metavar="dlib|vggface2|FILE", help="As for facegen evaluate.")
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
def main(generators: tuple[str, ...], data: str, count: int, id_judge: str | None, seed: int) -> None:
    """Print Markdown tables, a row for each generator and one for real faces, a column for each age group."""
    try:
        text = compare(generators, data, count, id_judge, seed)
    except (FacegenError, OSError) as error:
        raise click.ClickException(one_line(error)) from error
    click.echo(text)


def compare(texts: tuple[str, ...], data: str, count: int, id_judge: str | None, seed: int) -> str:
    """The tables. Judging takes minutes: what cannot be judged is told before."""
    archive = FaceArchive(data)
    groups = archive.groups or AgeGroups.default()
    few = [label for index, label in enumerate(groups.labels) if (archive.labels == index).sum() < 2]
    if few:
        raise FacegenError(f"{data}: has fewer than 2 faces of {', '.join(few)}: nothing to compare with")
    generators = load_all(texts, groups)
    age_judge, who = load_age_judge(), load_identity_judge(id_judge, archive.template or UTKFACE_TEMPLATE)
    real = real_faces(archive, groups, 2 * count, seed)
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

    for name, generator in generators.items():
        faces = [images.expand(-1, 3, -1, -1) for images in generated(generator, count, seed)]
        features = [who.features(images) for images in faces]
        judge(name, faces, features)
        results, wanted = (list(map(scale_unit_features, found)) for found in (features, reals))
        every, each = realism_scores(results, wanted, seed=seed)
        tables["kernel"][name] = [f"{1000 * found.kernel:.1f}" for found in [every, *each]]
    # Two sets of real faces, which are the same for every generator.
    tables["kernel"][REAL] = [f"{1000 * found.real_kernel:.1f}" for found in [every, *each]]
    judge(REAL, real, reals)

    titles = {
        "near": "Judged in the age group or one next to it",
        "kernel": "Kernel distance to real faces of the group, in thousandths",
        "spread": "Distance between two faces of the group, 100 % as of real ones",
    }
    lines = []
    for key, title in titles.items():
        lines += [f"\n{title}:\n", f"| | all | {' | '.join(groups.labels)} |", f"|---|{'---:|' * (len(groups) + 1)}"]
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in tables[key].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
