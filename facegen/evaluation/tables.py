"""The numbers of an evaluation as tables of words, for Markdown and for the page; and all of them for machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from facegen.evaluation.bootstrap import Estimate
from facegen.evaluation.evaluate import Evaluation, SystemScores
from facegen.evaluation.identity import IdentityScores
from facegen.evaluation.realism import Realism
from facegen.text import in_markdown, visible

NOTHING = "–"
KERNEL_UNIT = 1000  # kernel distances are written in thousandths


@dataclass(frozen=True)
class Table:
    """Words in rows.

    Attributes:
        title: Stands over the table.
        note: What the numbers mean, a sentence or two.
        columns: The heads of the columns; the first is that of the rows' names.
        rows: One cell for each column.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


def main_tables(evaluation: Evaluation) -> list[Table]:
    """What matters most: over all ages."""
    return [_age_and_identity(evaluation), _pictures(evaluation)]


def detail_tables(evaluation: Evaluation) -> list[Table]:
    """For each target, and the judge on real faces."""
    return [*_per_target(evaluation), *_judge(evaluation)]


def as_markdown(table: Table) -> str:
    """A table in GitHub's Markdown, with its title and note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    head = [line([*map(in_markdown, table.columns)]), "|" + " --- |" + " ---: |" * (len(table.columns) - 1)]
    rows = [line([in_markdown(name), *cells]) for name, *cells in table.rows]  # other cells are numbers
    return f"### {table.title}\n\n{table.note}\n\n" + "\n".join([*head, *rows]) + "\n"


def as_plain_text(table: Table) -> str:
    """A table for the terminal: one block a row, its numbers below each other."""
    width = max(map(len, table.columns[1:]))
    blocks = []
    for name, *cells in table.rows:
        lines = [f"  {column:<{width}}  {cell}" for column, cell in zip(table.columns[1:], cells, strict=True)]
        blocks.append("\n".join([visible(name), *(line for line in lines if not line.endswith(NOTHING))]))
    return "\n".join(blocks)


def as_numbers(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the pictures, for JSON; what could not be measured is None."""
    faces = evaluation.faces
    systems = []
    for scores in evaluation.systems:
        numbers = {
            field.name: to_json(getattr(scores, field.name))
            for field in fields(scores)
            if field.name not in {"system", "rendered"}
        }
        numbers["correlation_quartiles"] = to_json(scores.monotone)
        systems.append({"name": scores.system.name, **to_json(scores.system.description), **numbers})
    return {
        "groups": evaluation.groups.labels,
        "targets": [
            {"label": label, "age": age}
            for label, age in zip(evaluation.target_labels, evaluation.targets, strict=True)
        ],
        "seed": evaluation.seed,
        "device": evaluation.device,
        "threads": evaluation.threads,
        "group_counts": evaluation.group_counts,
        "real_counts": evaluation.real_counts,
        "faces": [
            {"file": name, "age": to_json(age), "age_is_known": bool(known), "predicted": to_json(predicted)}
            for name, age, known, predicted in zip(faces.names, faces.ages, faces.known, faces.predicted, strict=True)
        ],
        "real_age": to_json(evaluation.real_age),
        "real_age_per_group": to_json(evaluation.real_age_per_group),
        "floor": to_json(evaluation.floor),
        "systems": systems,
    }


def to_json(value: Any) -> Any:
    """Dataclasses, arrays and numbers as what JSON knows; NaN and infinity become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _age_and_identity(evaluation: Evaluation) -> Table:
    floor = evaluation.floor
    cells: dict[str, Callable[[SystemScores], str]] = {
        "error, years": lambda scores: years(scores.age.error),
        "right": lambda scores: percent(scores.age.right),
        "near": lambda scores: percent(scores.age.near),
        "order": lambda scores: _quartiles(scores.monotone),
    }
    if floor is not None:
        cells |= {
            "similarity": lambda scores: cosine(identity_of(scores).similarity),
            "to others": lambda scores: cosine(identity_of(scores).strangers),
            "recognized": lambda scores: percent(identity_of(scores).recognised),
            "ceiling": lambda scores: cosine(identity_of(scores).ceiling),
            "from floor to ceiling": lambda scores: percent(identity_of(scores).share),
            "to the best ceiling": lambda scores: percent(scores.share_of_best),
        }
    rows = [[scores.system.name, *(cell(scores) for cell in cells.values())] for scores in evaluation.systems]
    if (real := evaluation.real_age) is not None:
        row = ["real faces at their own age", years(real.error), percent(real.right), percent(real.near)]
        rows.append([*row, *[NOTHING] * (len(cells) - 3)])
    note = (
        "Over all target ages, with 95 % intervals (bootstrap over people). Error: mean difference of judged and "
        "target age. Right: judged in the target's group; near: in it or one next to it. Order: Spearman's correlation "
        "of judged and target age along a person's strip, median (quartiles)."
    )
    if floor is None:
        return Table("Age", note, ["system", *cells], rows)
    rows.append(["two different people", *[NOTHING] * 4, cosine(floor), *[NOTHING] * 5])
    note += (
        " Similarity: cosine of input and result; "
        "to others: that of input and other people's results. Recognized: share of other people who are less like the "
        "result than the person is; chance is 50 %. Ceiling: similarity of input and reconstruction. From floor to "
        "ceiling: 0 % is two different people, 100 % the system's own reconstructions, or the best ones of all rows."
    )
    return Table("Age and identity", note, ["system", *cells], rows)


def identity_of(scores: SystemScores) -> IdentityScores:
    """What was measured of identity, where there is a judge of it."""
    assert scores.identity is not None
    return scores.identity


def _pictures(evaluation: Evaluation) -> Table:
    systems = evaluation.systems
    by_identity, by_inception = systems[0].realism, systems[0].inception
    columns = ["system", "MSE", "PSNR, dB", "SSIM", "LPIPS"]
    columns += ["Fréchet", "kernel ×1000"] if by_identity is not None else []
    columns += ["FID", "KID ×1000"] if by_inception is not None else []
    columns += ["seconds per photo"]
    rows = []
    for scores in systems:
        found = scores.reconstruction
        row = [scores.system.name, _estimate(found.mse, 4), _estimate(found.psnr, 1)]
        row += [NOTHING if x is None else _estimate(x, 3) for x in (found.ssim, found.lpips)]
        row += [*_distances(scores.realism), *_distances(scores.inception)]
        rows.append([*row, _quartiles(scores.seconds, ".3g")])
    note = "MSE (of pixels in 0 to 1), PSNR, SSIM and LPIPS: input and reconstruction at the input's own age."
    if (floor := by_identity or by_inception) is not None:
        row = ["real faces and real faces", *[NOTHING] * 4, *_distances(by_identity, real=True)]
        rows.append([*row, *_distances(by_inception, real=True), NOTHING])
        note += (
            f" {'FID and KID' if by_identity is None else 'Fréchet and kernel distance'}: of {floor.count:,d} results "
            "and as many real faces of the targets' groups, by features of "
            f"{'Inception' if by_identity is None else 'the judge of identities'}; below all, of two halves of the "
            "real faces."
        )
    note += (
        " Time: one photo alone, its encoding, "
        f"reconstruction and {len(evaluation.targets)} ages, median (quartiles), on {evaluation.device}, "
        f"{evaluation.threads} threads."
    )
    return Table(
        "Reconstruction and time" if floor is None else "Reconstruction, realism and time", note, columns, rows
    )


def _per_target(evaluation: Evaluation) -> list[Table]:
    def table(title: str, note: str, cell: Callable[[SystemScores, int], str], *last_rows: list[str]) -> Table:
        rows = [
            [scores.system.name, *(cell(scores, i) for i in range(len(evaluation.targets)))]
            for scores in evaluation.systems
        ]
        return Table(title, note, ["system", *evaluation.target_labels], [*rows, *last_rows])

    ages = table(
        "Judged age for each target",
        "Median (quartiles), in years.",
        lambda scores, i: _quartiles(scores.age_per_target[i].quartiles, ".0f"),
    )
    ages.rows.insert(0, ["target", *(f"{age:g}" for age in evaluation.targets)])
    tables = [
        ages,
        table("Error for each target", "Mean, in years.", lambda s, i: years(s.age_per_target[i].error)),
        table("Right group for each target", "", lambda s, i: percent(s.age_per_target[i].right)),
        table("Right group or the next for each target", "", lambda s, i: percent(s.age_per_target[i].near)),
    ]
    if evaluation.floor is not None:
        tables.append(table("Similarity for each target", "", lambda s, i: cosine(identity_of(s).per_target[i])))
    if (real := evaluation.systems[0].realism_per_target) is not None:
        tables.append(
            table(
                "Realism for each target",
                "Kernel distance ×1000 of results and real faces, and of real and real; unbiased, so it may fall "
                "below 0.",
                lambda scores, i: _kernel((scores.realism_per_target or real)[i].kernel),
                ["real and real", *(_kernel(found.real_kernel) for found in real)],
                ["faces on each side", *(str(found.count) for found in real)],
            )
        )
    return tables


def _judge(evaluation: Evaluation) -> list[Table]:
    if evaluation.real_age is None:
        return []
    rows = [
        [label, str(found.count), years(found.error), years(found.bias), percent(found.right), percent(found.near)]
        for label, found in {**evaluation.real_age_per_group, "all": evaluation.real_age}.items()
    ]
    return [
        Table(
            "The judge of ages on real faces",
            "Its own error, by true age: no result can be expected to be judged better than real faces are. Bias: "
            "judged minus true age.",
            ["true age", "faces", "error, years", "bias, years", "right", "near"],
            rows,
        )
    ]


def years(estimate: Estimate) -> str:
    """As `7.1 [6.8, 7.5]`."""
    return _estimate(estimate, 1)


def cosine(estimate: Estimate) -> str:
    """As `0.912 [0.905, 0.918]`."""
    return _estimate(estimate, 3)


def percent(estimate: Estimate | None) -> str:
    """A share as `62 % [58, 66]`."""
    if estimate is None or not math.isfinite(estimate.value):
        return NOTHING
    return f"{100 * estimate.value:.0f} % [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def _estimate(estimate: Estimate, digits: int) -> str:
    if not math.isfinite(estimate.value):
        return NOTHING
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _quartiles(numbers: tuple[float, float, float], form: str = ".2f") -> str:
    low, middle, high = numbers
    if not math.isfinite(middle):
        return NOTHING
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _distances(found: Realism | None, real: bool = False) -> list[str]:
    if found is None:
        return []
    frechet, kernel = (found.real_frechet, found.real_kernel) if real else (found.frechet, found.kernel)
    return [f"{frechet:.2f}" if math.isfinite(frechet) else NOTHING, _kernel(kernel)]


def _kernel(value: float) -> str:
    return f"{KERNEL_UNIT * value:.1f}" if math.isfinite(value) else NOTHING
