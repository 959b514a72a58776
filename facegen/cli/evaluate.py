"""`facegen evaluate`: how good age transfer is on real, held-out faces."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from facegen.aging.edit import Edit, parse_ages
from facegen.cli import device_option
from facegen.options import Parsed, click_options


@click.command()
@click.option("--photos", required=True, metavar="ARCHIVE|FOLDER", help="Held-out faces: no training has seen them.")
@click.option("--outdir", default="report", show_default=True, type=click.Path(path_type=Path), help="For the report.")
@click.option("--generator", metavar="FILE|RUN|URL", help="Another generator than the one in the package.")
@click.option("--encoder", metavar="FILE|RUN|URL", help="Another encoder than the one in the package.")
@click.option("--name", default="facegen", show_default=True, help="What this system is called in the tables.")
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME=ENCODER",
    help="Another row: another encoder and its settings, as zmse=z.safetensors,generator=g.safetensors,refine=500.",
)
@click_options(Edit)
@click.option(
    "--ages",
    type=Parsed(parse_ages),
    metavar="YEARS",
    help="Targets: 5,25,65 or 5:90:5.  [default: every age group]",
)
@click.option("--hide-ages", is_flag=True, help="Do not tell the systems how old the faces are: they estimate it.")
@click.option("--photos-limit", type=click.IntRange(1), metavar="N", help="Only N faces, evenly of the age groups.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds every draw.")
@click.option("--age-estimator", metavar="FILE", help="Another age estimator for the systems (not the judge).")
@click.option("--age-judge", metavar="FILE", help="Another judge of ages than the one in the package.")
@click.option("--id-judge", metavar="dlib|vggface2|FILE", help="Judge of identities.  [default: dlib if installed]")
@click.option("--inception", metavar="FILE", help="Weights of Inception, for FID and KID.  [default: downloaded]")
@click.option("--vgg", metavar="FILE", help="Weights of VGG16, for LPIPS.  [default: downloaded]")
@click.option("--lpips", metavar="FILE", help="Weights of LPIPS.  [default: downloaded]")
@device_option
def command(
    outdir: Path,
    encoder: str | None,
    name: str,
    compare: tuple[str, ...],
    ages: list[float] | None,
    hide_ages: bool,
    photos_limit: int | None,
    **chosen: Any,
) -> None:
    """Measure how good age transfer is on real, held-out faces.

    Ages, identity, reconstruction, realism and time, each as judged by networks that had no part in the training. The
    report (report.html, table.md, results.json, strips/) goes into OUTDIR. A folder or zip of photos may hold any
    pictures with faces; ages are taken from names as UTKFace's, where there are any.

    \b
    Example:
      facegen evaluate --photos held.zip --photos-limit 200 --outdir report
      facegen evaluate --photos held.zip --encoder w.safetensors --compare zmse=z.safetensors
      facegen evaluate --photos held.zip --compare refined=,refine=500
    """
    from facegen.evaluation.run import JudgeFiles, SystemSpec, parse_system, run_evaluation
    from facegen.evaluation.tables import as_plain_text, main_tables

    edit = Edit.from_command(chosen)
    systems = [SystemSpec(name, encoder, edit), *map(parse_system, compare)]
    files = {name: value for name, value in chosen.items() if name not in edit.to_json()}
    files["judge_files"] = JudgeFiles(**{field.name: files.pop(field.name) for field in fields(JudgeFiles)})
    try:
        evaluation, page = run_evaluation(
            outdir=outdir, systems=systems, ages=ages, give_ages=not hide_ages, limit=photos_limit, **files
        )
    except KeyboardInterrupt:
        click.echo("\nStopped before the end: no report was written.", err=True)
        raise click.exceptions.Exit(130) from None
    for table in main_tables(evaluation):
        click.echo(as_plain_text(table))
    click.echo(f"look at {page}")
