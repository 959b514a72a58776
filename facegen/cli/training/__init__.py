"""The commands that train: `facegen train`, `train-encoder`, `train-age`, `train-editor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from facegen.options import Options, options_to_merge

Chosen = TypeVar("Chosen", bound=Options)

resume_option = click.option(
    "--resume", metavar="RUN", type=click.Path(path_type=Path), help="Continue this run folder."
)


def chosen_options(
    ctx: click.Context, kind: type[Chosen], resume: Path | None, chosen: Mapping[str, Any], needed: str
) -> Chosen:
    """Return the options of a new run, or those of the run to continue, unless the command changes them.

    Args:
        resume: the run to continue; None starts a new one.
        chosen: the values of the command.
        needed: what to say if a new run lacks what it learns from, its first option; as in `--data ARCHIVE`.

    Raises:
        click.UsageError: that is missing, or an option cannot change any more.
    """
    from facegen.training.run.folder import read_options

    if resume is not None:
        before = read_options(resume, kind)
        return replace(before, **options_to_merge(ctx, before, without=("resume", "device", "gpus")))
    if chosen[fields(kind)[0].name] is None:
        raise click.UsageError(f"give {needed}, or --resume RUN")
    return kind.from_command(chosen)
