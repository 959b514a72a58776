"""How good generated faces of each age group are: of that age, real-looking, and unlike each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from facegen.ages import AgeGroups
from facegen.data.archive import FaceArchive
from facegen.evaluation.age import group_of_years
from facegen.evaluation.judges import AgeJudge, SexJudge
from facegen.evaluation.realism import Realism, realism_scores, scale_unit_features
from facegen.evaluation.report.tables import KERNEL_UNIT
from facegen.images import to_uint8
from facegen.metrics.features import Extractor
from facegen.networks.generator import Generator

BATCH = 50
REAL = "real faces"  # the last row


@dataclass(frozen=True)
class GroupScores:
    """Numbers of each age group; before them stands that of all groups.

    Attributes:
        near: share of faces judged in the group or one next to it.
        kernel: kernel distance to real faces of the group.
        spread: mean distance between two faces of the group, as a multiple of that of real ones.
        men: share of faces judged men.
    """

    near: list[float]
    kernel: list[float]
    spread: list[float]
    men: list[float]


def judge_generators(
    generators: Mapping[str, Generator],
    archive: FaceArchive,
    groups: AgeGroups,
    age_judge: AgeJudge,
    identity_judge: Extractor,
    sex_judge: SexJudge,
    *,
    count: int,
    seed: int = 0,
) -> dict[str, GroupScores]:
    """Judge the faces of at least one generator, and real ones as the last row.

    Args:
        generators: conditional generators of these groups, by name.
        archive: real faces, at least 2 of each group.
        age_judge: tells ages.
        identity_judge: its features of length 1 tell faces apart.
        sex_judge: tells women from men, by those features or by pictures.
        count: faces of each group.
        seed: seeds every random choice.
    """
    real = real_faces(archive, groups, 2 * count, seed)
    real_features = [identity_judge.features(images) for images in real]
    wanted = [scale_unit_features(features) for features in real_features]

    def scores(faces: list[torch.Tensor], features: list[torch.Tensor], kernel: list[float]) -> GroupScores:
        years = [age_judge.predict(images) for images in faces]
        near = [float((np.abs(group_of_years(y, groups) - i) <= 1).mean()) for i, y in enumerate(years)]
        spreads = [spread(found) / spread(reals) for found, reals in zip(features, real_features, strict=True)]
        seen = features if sex_judge.takes_features else faces
        men = [float((sex_judge.men(group) > 0.5).mean()) for group in seen]
        return GroupScores(_with_mean(near), kernel, _with_mean(spreads), _with_mean(men))

    rows, distances = {}, list[Realism]()
    for name, generator in generators.items():
        faces = generated(generator, count, seed)
        features = [identity_judge.features(images) for images in faces]
        every, each = realism_scores([scale_unit_features(found) for found in features], wanted, seed=seed)
        distances = [every, *each]
        rows[name] = scores(faces, features, [found.kernel for found in distances])
    # Two sets of real faces, which are the same for every generator.
    rows[REAL] = scores(real, real_features, [found.real_kernel for found in distances])
    return rows


@torch.no_grad()
def generated(generator: Generator, count: int, seed: int) -> list[torch.Tensor]:
    """Return faces uint8 `[count, 3, S, S]` of every class, of the same z."""
    z = torch.randn([count, generator.z_dim], generator=torch.Generator().manual_seed(seed))
    faces = []
    for label in torch.eye(generator.c_dim):
        parts = [generator(part, label.expand(len(part), -1), noise_mode="const") for part in z.split(BATCH)]
        faces.append(to_uint8(torch.cat(parts)).expand(-1, 3, -1, -1))
    return faces


def real_faces(archive: FaceArchive, groups: AgeGroups, most: int, seed: int) -> list[torch.Tensor]:
    """Return at most `most` faces uint8 `[N, 3, S, S]` of every age group, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(archive))
    faces = []
    for group in range(len(groups)):
        members = order[archive.labels[order] == group][:most]
        faces.append(torch.from_numpy(np.stack([archive.image(int(i)) for i in members])).expand(-1, 3, -1, -1))
    return faces


def spread(features: torch.Tensor) -> float:
    """Return the mean distance (1 - cosine) of two different faces, whose features `[N, D]` have length 1."""
    count = len(features)
    cosines = features @ features.T
    return 1 - float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def _with_mean(numbers: list[float]) -> list[float]:
    return [float(np.mean(numbers)), *numbers]


def as_markdown(rows: Mapping[str, GroupScores], groups: AgeGroups) -> str:
    """Return four tables, a row for each name and a column for each age group."""
    tables = {
        "Judged in the age group or one next to it": {n: _percent(row.near) for n, row in rows.items()},
        "Kernel distance to real faces of the group, in thousandths": {
            n: [f"{KERNEL_UNIT * value:.1f}" for value in row.kernel] for n, row in rows.items()
        },
        "Distance between two faces of the group, 100 % as of real ones": {
            n: _percent(row.spread) for n, row in rows.items()
        },
        "Judged men": {n: _percent(row.men) for n, row in rows.items()},
    }
    lines = []
    for title, cells_of in tables.items():
        lines += [f"\n{title}:\n", f"| | all | {' | '.join(groups.labels)} |", f"|---|{'---:|' * (len(groups) + 1)}"]
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in cells_of.items()]
    return "\n".join(lines)


def _percent(shares: Sequence[float]) -> list[str]:
    return [f"{share:.0%}" for share in shares]
