"""`facegen evaluate`: how good age transfer is on real, held-out faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.aging.edit import Edit, by_editor
from facegen.cli import device_option, editor_option, encoder_option, force_option, generator_option
from facegen.evaluation.options import EvaluationOptions
from facegen.options import click_options


@click.command()
@click.option(
    "--photos", required=True, metavar="ARCHIVE|FOLDER", help="Held-out faces, which were not used in training."
)
@click.option(
    "--outdir", default="report", show_default=True, type=click.Path(path_type=Path), help="Folder for the report."
)
@generator_option
@encoder_option
@editor_option
@click.option("--name", default="facegen", show_default=True, help="Name of this system in the tables.")
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME=ENCODER",
    help="Add a row for another encoder and its settings, such as "
    "zmse=z.safetensors,generator=g.safetensors,refine=500.",
)
@click_options(Edit, EvaluationOptions)
@device_option
@force_option
def command(
    photos: str,
    outdir: Path,
    generator: str | None,
    encoder: str | None,
    editor: str | None,
    name: str,
    compare: tuple[str, ...],
    device: str | None,
    force: bool,
    **chosen: Any,
) -> None:
    """Measure how good age transfer is on real, held-out faces.

    Measures ages, identity, reconstruction, realism and time. The judges are networks that were not used in training.
    Writes report.html, table.md, results.json and strips/ to OUTDIR. The photos may be any pictures with faces, in a
    folder or zip; ages are read from file names like UTKFace's, if there are any.

    \b
    Example:
      facegen evaluate --photos held.zip --photos-limit 200 --outdir report
      facegen evaluate --photos held.zip --encoder w.safetensors --compare zmse=z.safetensors
      facegen evaluate --photos held.zip --compare refined=,refine=500
    """
    from facegen.evaluation.report.tables import as_plain_text, main_tables
    from facegen.evaluation.run import SystemSpec, parse_system, run_evaluation
    from facegen.status import say

    edit = by_editor(Edit.from_command(chosen), editor)
    systems = [SystemSpec(name, encoder, edit, editor=editor), *map(parse_system, compare)]
    options = EvaluationOptions.from_command(chosen)
    try:
        evaluation, page = run_evaluation(
            photos, outdir, systems, options, generator=generator, device=device, force=force
        )
    except KeyboardInterrupt:
        say("", "Stopped before the end: no report was written.", err=True)
        raise click.exceptions.Exit(130) from None
    for table in main_tables(evaluation):
        say(*as_plain_text(table).split("\n"))
    say(f"look at {page}")
