"""Starting one training process for each GPU of this machine (`--gpus N`), as `torchrun` does."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from facegen.errors import FacegenError
from facegen.parallel import python_code
from facegen.status import RESUME_ME

GRACE = 600  # seconds that processes have to finish their step and save; torchrun alone gives them 30


def launch(command: Sequence[str], processes: int) -> int:
    """Run `facegen COMMAND...` in several processes that train together, and wait for them.

    Ctrl-C and SIGTERM are passed on to all. If one of them fails, the others are ended.

    Returns:
        The exit code for this process: 0, or `RESUME_ME` after a SIGTERM.

    Raises:
        FacegenError: one of them failed, or there are fewer GPUs.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    check_gpus(processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE))
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)  # "Received 2 death signal" does not help
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"facegen{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        code = python_code("from facegen.cli import main; main(prog_name='facegen')")
        elastic_launch(config, sys.executable)("-c", code, *command)
    except SignalException as stop:
        return RESUME_ME if stop.sigval == signal.SIGTERM else 0
    except ChildFailedError as error:
        if all(failure.exitcode == RESUME_ME for failure in error.failures.values()):
            return RESUME_ME
        rank, failure = error.get_first_failure()
        how = f"exit code {failure.exitcode}" if failure.exitcode >= 0 else f"signal {-failure.exitcode}"
        raise FacegenError(
            f"rank {rank} of {processes} ended with {how}, so all were ended; its own message is above. "
            "Continue a training from its last snapshot with --resume"
        ) from error
    return 0


def check_gpus(processes: int) -> None:
    """Raise a FacegenError if a machine with GPUs has fewer than there are to be processes."""
    import torch

    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise FacegenError(f"--gpus {processes}: this machine has {torch.cuda.device_count()} GPUs")


def run_on_all(ctx: click.Context, gpus: int) -> bool:
    """Run the command of a context on several GPUs; False, and nothing done, if it is to run in this process alone.

    Raises:
        click.UsageError: this process is already one of several.
        FacegenError: one of the processes failed.
    """
    if gpus == 1:
        return False
    from facegen.training.run.distributed import is_launched

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
