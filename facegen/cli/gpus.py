"""`--gpus N` of the training commands: start the command again, once for each GPU."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource


def gpus_option(command: Any) -> Any:
    """Add `--gpus` to a command."""
    return click.option(
        "--gpus",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="GPUs of this machine to train on; several machines: see docs/scaling.md.",
    )(command)


def run_on_all(ctx: click.Context, gpus: int) -> bool:
    """Run the command of a context on several GPUs; False, and nothing done, if it is to run in this process alone.

    Raises:
        click.UsageError: this process is already one of several.
        FacegenError: one of the processes failed.
    """
    if gpus == 1:
        return False
    from facegen.training.distributed import is_launched
    from facegen.training.launch import launch

    if is_launched():
        raise click.UsageError("--gpus and torchrun both start processes: leave out --gpus")
    given = [
        _as_written(option, ctx.params[option.name])
        for option in ctx.command.params
        if option.name != "gpus" and ctx.get_parameter_source(option.name or "") == ParameterSource.COMMANDLINE
    ]
    code = launch([ctx.command.name or "", *given], gpus)
    if code:
        sys.exit(code)
    return True


def _as_written(option: click.Parameter, value: Any) -> str:
    """Return an option and its value as one word of a command line."""
    if isinstance(option, click.Option) and option.is_flag:
        return (option.opts if value else option.secondary_opts)[-1]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{option.opts[-1]}={text}"
