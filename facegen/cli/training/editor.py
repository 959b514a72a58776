"""`facegen train-editor`: teach a network to change the age of a face in a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli import device_option, outdir_option
from facegen.cli.training import chosen_options, resume_option
from facegen.options import click_options
from facegen.training.editor.options import EditorOptions


@click.command("train-editor")
@click_options(EditorOptions)
@outdir_option
@resume_option
@device_option
@click.pass_context
def command(ctx: click.Context, outdir: Path, resume: Path | None, device: str | None, **chosen: Any) -> None:
    """Train an editor: a network that changes the age of a face in a photo, at the photo's own resolution.

    Learns from an archive of real faces with known ages, and from pairs that a generator draws. Writes a new run
    folder: editor.safetensors, log.txt, stats.jsonl, curve.png and edits.png (validation faces at five ages). Ctrl-C
    saves and stops; so does SIGTERM, with exit code 75. --resume continues (up to a new --kimg, if given).

    \b
    Example:
      facegen train-editor --data train.zip --kimg 60
    """
    from facegen.training.editor.loop import train_editor

    options = chosen_options(ctx, EditorOptions, resume, chosen, "--data ARCHIVE")
    train_editor(options, outdir, device=device, resume=resume)
