"""The tables below the main ones: by distance in years, by strength, by target age, and the judge on real faces."""

from __future__ import annotations

import math
from collections.abc import Callable

from facegen.evaluation.bench import SystemScores
from facegen.evaluation.bootstrap import Estimate
from facegen.evaluation.dial import DialPoint
from facegen.evaluation.evaluate import Evaluation
from facegen.evaluation.identity import DISTANCES, FALSE_ACCEPTS
from facegen.evaluation.report.tables import (
    NOTHING,
    Table,
    cosine,
    identity_of,
    kernel_in_words,
    percent,
    quartiles_in_words,
    years,
)


def detail_tables(evaluation: Evaluation) -> list[Table]:
    """What stands below the main tables."""
    return [
        *_by_distance(evaluation),
        _dial(evaluation),
        *_per_target(evaluation),
        *_sex_per_target(evaluation),
        *_judge(evaluation),
    ]


def distance_labels() -> list[str]:
    """The columns of DISTANCES."""
    return [f"{low:g}-{high:g} years" if math.isfinite(high) else f"over {low:g} years" for low, high in DISTANCES]


def reference_rows(evaluation: Evaluation) -> dict[str, list[float]]:
    """What similarity is to be read beside, by distance: real pairs of one person if known, strangers."""
    rows = {}
    if evaluation.real_pairs is not None:
        rows["two real pictures of one person"] = [found.value for found in evaluation.real_pairs]
    if evaluation.floor is not None and evaluation.threshold is not None:
        rows[f"accepted by {100 * FALSE_ACCEPTS:g} % of strangers"] = [evaluation.threshold] * len(DISTANCES)
        rows["two different people"] = [evaluation.floor.value] * len(DISTANCES)
    return rows


def _by_distance(evaluation: Evaluation) -> list[Table]:
    if evaluation.floor is None:
        return []
    rows = [[scores.name, *map(cosine, identity_of(scores).per_distance)] for scores in evaluation.systems]
    rows += [
        [name, *(f"{value:.3f}" if math.isfinite(value) else NOTHING for value in values)]
        for name, values in reference_rows(evaluation).items()
    ]
    note = "Similarity by the years between a face's own age and the target: who is forty years older has changed."
    return [Table("Identity by distance", note, ["system", *distance_labels()], rows)]


def _dial(evaluation: Evaluation) -> Table:
    def name(point: DialPoint) -> str:
        if point.strength is not None:
            return f"{point.strength:g}"
        return "as given" if evaluation.systems[0].at_cap is None else "auto"

    cells: dict[str, Callable[[DialPoint], str]] = {
        "error, years": lambda point: years(point.age.error),
        "near": lambda point: percent(point.age.near),
    }
    if evaluation.floor is not None:
        cells["similarity"] = lambda point: NOTHING if point.similarity is None else cosine(point.similarity)
    rows = [[name(point), *(cell(point) for cell in cells.values())] for point in evaluation.dial]
    note = (
        f"The first system's photos of {evaluation.dial[0].people:,d} people, with the same share of the change for "
        "every face and age. At 0 they are the photos as they were."
    )
    return Table("The dial", note, ["strength", *cells], rows)


def _per_target(evaluation: Evaluation) -> list[Table]:
    def table(title: str, note: str, cell: Callable[[SystemScores, int], str], *last_rows: list[str]) -> Table:
        rows = [
            [scores.name, *(cell(scores, i) for i in range(len(evaluation.targets)))] for scores in evaluation.systems
        ]
        return Table(title, note, ["system", *evaluation.target_labels], [*rows, *last_rows])

    ages = table(
        "Judged age for each target",
        "Median (quartiles), in years.",
        lambda scores, i: quartiles_in_words(scores.age_per_target[i].quartiles, ".0f"),
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
                lambda scores, i: kernel_in_words((scores.realism_per_target or real)[i].kernel),
                ["real and real", *(kernel_in_words(found.real_kernel) for found in real)],
                ["faces on each side", *(str(found.count) for found in real)],
            )
        )
    return tables


def _sex_per_target(evaluation: Evaluation) -> list[Table]:
    rows = []
    for scores in evaluation.systems:
        if scores.sex is not None:
            for who, found, all_ages in (
                ("women", scores.sex.women_per_target, scores.sex.women),
                ("men", scores.sex.men_per_target, scores.sex.men),
            ):
                rows.append([f"{scores.name}: {who}", *map(_short_percent, found), percent(all_ages)])
    if not rows:
        return []
    note = "Results that show the sex that the judge sees in the input."
    return [Table("Sex kept for each target", note, ["system", *evaluation.target_labels, "all"], rows)]


def _short_percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.0f} %" if math.isfinite(estimate.value) else NOTHING


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
