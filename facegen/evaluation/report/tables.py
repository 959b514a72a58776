"""The numbers of an evaluation as tables of words, for Markdown and for the page; and all of them for machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from facegen.evaluation.bench import SystemScores
from facegen.evaluation.bootstrap import Estimate
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.identity import FALSE_ACCEPTS, IdentityScores
from facegen.evaluation.realism import Realism
from facegen.evaluation.system import FACE
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
    return [_age(evaluation), *_identity(evaluation), _pictures(evaluation)]


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
        "threshold": to_json(evaluation.threshold),
        "real_pairs": to_json(evaluation.real_pairs),
        "dial": to_json(evaluation.dial),
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


def _age(evaluation: Evaluation) -> Table:
    cells: dict[str, Callable[[SystemScores], str]] = {
        "error, years": lambda scores: years(scores.age.error),
        "right": lambda scores: percent(scores.age.right),
        "near": lambda scores: percent(scores.age.near),
        "order": lambda scores: quartiles_in_words(scores.monotone),
        "sex kept": lambda scores: NOTHING if scores.sex is None else percent(scores.sex.kept),
        "strength": _strength,
        "sharpness": lambda scores: quartiles_in_words(scores.sharpness),
    }
    rows = [[scores.name, *(cell(scores) for cell in cells.values())] for scores in evaluation.systems]
    if (real := evaluation.real_age) is not None:
        row = ["real faces at their own age", years(real.error), percent(real.right), percent(real.near)]
        rows.append([*row, *[NOTHING] * (len(cells) - 3)])
    note = (
        "Photo: the whole photo at another age, as people get it; face: as the generator draws it. "
        "Over all target ages, with 95 % intervals (bootstrap over people). Error: mean difference of judged and "
        "target age. Right: judged in the target's group; near: in it or one next to it. Order: Spearman's correlation "
        "of judged and target age along a person's strip, median (quartiles). Sex kept: results of the sex that the "
        "judge sees in the input. Strength: how much of the change goes into the photo, median, and how often it is "
        "the most that is tried. Sharpness: fine detail of the face, 1 as much as in the input, median (quartiles)."
    )
    return Table("Age, sex and sharpness", note, ["system", *cells], rows)


def _strength(scores: SystemScores) -> str:
    if scores.strengths is None:
        return NOTHING
    middle = f"{np.median(scores.strengths):.2f}"
    return middle if scores.at_cap is None else f"{middle} ({100 * scores.at_cap:.0f} % at {scores.rendered.cap:g})"


def _identity(evaluation: Evaluation) -> list[Table]:
    floor, threshold = evaluation.floor, evaluation.threshold
    if floor is None or threshold is None:
        return []
    cells: dict[str, Callable[[SystemScores], str]] = {
        "similarity": lambda scores: cosine(identity_of(scores).similarity),
        "accepted": lambda scores: percent(identity_of(scores).accepted),
        "to others": lambda scores: cosine(identity_of(scores).strangers),
        "recognized": lambda scores: percent(identity_of(scores).recognised),
        "ceiling": lambda scores: cosine(identity_of(scores).ceiling),
        "from floor to ceiling": lambda scores: percent(identity_of(scores).share),
        "to the best ceiling": lambda scores: percent(scores.share_of_best),
    }
    rows = [[scores.name, *(cell(scores) for cell in cells.values())] for scores in evaluation.systems]
    rows.append(["two different people", cosine(floor), f"{100 * FALSE_ACCEPTS:g} %", *[NOTHING] * (len(cells) - 2)])
    note = (
        "Similarity: cosine of input and result. Accepted: results that pass for the person, with a similarity of at "
        f"least {threshold:.3f}, which {100 * FALSE_ACCEPTS:g} % of the pairs of different people have. "
        "To others: similarity of input and other people's results. Recognized: share of other people who are less "
        "like the result than the person is; chance is 50 %. Ceiling: similarity of input and reconstruction. From "
        "floor to ceiling: 0 % is two different people, 100 % the system's own reconstructions, or the best ones of "
        "all rows; a photo can be nearer to the person than the reconstruction is."
    )
    return [Table("Identity", note, ["system", *cells], rows)]


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
        row = [scores.name, *_reconstruction(scores)]
        row += [*_distances(scores.realism), *_distances(scores.inception)]
        rows.append([*row, quartiles_in_words(scores.seconds, ".3g")])
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
        f" Time: one photo alone, its encoding, reconstruction and {len(evaluation.targets)} ages with their "
        f"strengths, pasted; median (quartiles), on {evaluation.device}, {evaluation.threads} threads."
    )
    return Table(
        "Reconstruction and time" if floor is None else "Reconstruction, realism and time", note, columns, rows
    )


def _reconstruction(scores: SystemScores) -> list[str]:
    """The cells of a system's reconstructions, which stand in the row of its generated faces."""
    if scores.output != FACE:
        return [NOTHING] * 4
    found = scores.reconstruction
    numbers = (None if x is None else _estimate(x, 3) for x in (found.ssim, found.lpips))
    return [_estimate(found.mse, 4), _estimate(found.psnr, 1), *(x or NOTHING for x in numbers)]


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


def quartiles_in_words(numbers: tuple[float, float, float], form: str = ".2f") -> str:
    """As `0.98 (0.95 to 1.00)`: the median before the quartiles."""
    low, middle, high = numbers
    if not math.isfinite(middle):
        return NOTHING
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _distances(found: Realism | None, real: bool = False) -> list[str]:
    if found is None:
        return []
    frechet, kernel = (found.real_frechet, found.real_kernel) if real else (found.frechet, found.kernel)
    return [f"{frechet:.2f}" if math.isfinite(frechet) else NOTHING, kernel_in_words(kernel)]


def kernel_in_words(value: float) -> str:
    """A kernel distance, in thousandths."""
    return f"{KERNEL_UNIT * value:.1f}" if math.isfinite(value) else NOTHING
