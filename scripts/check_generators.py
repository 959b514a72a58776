"""How good the faces are that generators make in each age group: of that age, real, unlike each other, of which sex.

python scripts/check_generators.py --data utkface64-train.zip base=runs/00000-... balanced=runs/00001-...
"""

from __future__ import annotations

from pathlib import Path

import click
from torch import nn

from facegen.ages import AgeGroups
from facegen.cli import one_line
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.evaluation.generators import REAL, as_markdown, judge_generators
from facegen.evaluation.judges import load_age_judge, load_identity_judge, load_sex_judge
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.weights.load import load_generator


def named(text: str) -> tuple[str, str]:
    """Split `NAME=FILE` into name and file; a file alone is called by its own name."""
    name, equals, reference = (part.strip() for part in text.partition("="))
    if not equals:
        path = Path(text)
        return (path.resolve().name if path.is_dir() else path.stem), text
    if not name or not reference:
        raise FacegenError(f"{text!r} names no generator: write NAME=FILE")
    return name, reference


def load_all(texts: tuple[str, ...], groups: AgeGroups) -> dict[str, nn.Module]:
    """Return the generators by name, in order; raise a FacegenError for those that cannot stand in one table."""
    pairs = [named(text) for text in texts]
    names = [REAL, *(name for name, _ in pairs)]
    if len(set(names)) < len(names):
        raise FacegenError(f"two rows have one name: {', '.join(names)}; give each generator its own: NAME=FILE")
    generators = {}
    for name, reference in pairs:
        generator, header = load_generator(reference)
        if generator.c_dim == 0:
            raise FacegenError(f"{reference}: this generator has no age groups: train one with --cond")
        own = header.groups or AgeGroups.default()
        if generator.c_dim != len(own):
            raise FacegenError(f"{reference}: it has {generator.c_dim} classes, but there are {len(own)} age groups")
        if own != groups:
            raise FacegenError(f"{reference}: its age groups are {own}, those of the archive are {groups}")
        generators[name] = generator
    return generators


@click.command()
@click.argument("generators", nargs=-1, required=True, metavar="NAME=FILE|RUN...")
@click.option("--data", required=True, metavar="ARCHIVE", help="Real faces to compare with: those of the training.")
@click.option("--faces", "count", type=click.IntRange(2), default=150, show_default=True, help="Of each age group.")
@click.option("--id-judge", metavar="dlib|vggface2|FILE", help="As for facegen evaluate.")
@click.option("--seed", default=0, show_default=True, help="Seeds all draws.")
def main(generators: tuple[str, ...], data: str, count: int, id_judge: str | None, seed: int) -> None:
    """Print Markdown tables, a row for each generator and one for real faces, a column for each age group."""
    try:
        text = compare(generators, data, count, id_judge, seed)
    except (FacegenError, OSError) as error:
        raise click.ClickException(one_line(error)) from error
    click.echo(text)


def compare(texts: tuple[str, ...], data: str, count: int, id_judge: str | None, seed: int) -> str:
    """Return the tables. Judging takes minutes, so what cannot be judged raises a FacegenError before."""
    archive = FaceArchive(data)
    groups = archive.groups or AgeGroups.default()
    few = [label for index, label in enumerate(groups.labels) if (archive.labels == index).sum() < 2]
    if few:
        raise FacegenError(f"{data}: has fewer than 2 faces of {', '.join(few)}: nothing to compare with")
    generators = load_all(texts, groups)
    age_judge, who = load_age_judge(), load_identity_judge(id_judge, archive.template or UTKFACE_TEMPLATE)
    rows = judge_generators(generators, archive, groups, age_judge, who, load_sex_judge(who), count=count, seed=seed)
    return as_markdown(rows, groups)


if __name__ == "__main__":
    main()
