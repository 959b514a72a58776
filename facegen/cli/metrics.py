"""`facegen metrics`: how good a generator's faces are, compared with an archive."""

from __future__ import annotations

import math
from typing import Any

import click

from facegen.cli import device_option
from facegen.metrics.options import MetricsOptions
from facegen.options import click_options


@click.command("metrics")
@click_options(MetricsOptions)
@click.option("--json", "json_file", type=click.Path(), help="Also write the numbers to this file.")
@device_option
@click.option(
    "--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Number of GPUs that share the work."
)
@click.pass_context
def command(ctx: click.Context, json_file: str | None, device: str | None, gpus: int, **chosen: Any) -> None:
    """Measure how good a generator's faces are, compared with real faces.

    The judging networks are downloaded once, or read from the files you give. Their results for the real faces are
    cached, so later measurements are faster. For a network in a run folder, the numbers are also added to
    metric-NAME.jsonl there.

    \b
    Example:
      facegen metrics --network runs/00000-faces64 --metrics fid5k_full
      facegen metrics --network ffhq.pkl --data ffhq.zip --metrics fid50k_full,ppl_wend --gpus 4
    """
    from facegen.device import pick_device
    from facegen.files import write_json
    from facegen.metrics.record import finite_or_none
    from facegen.metrics.run import run_metrics
    from facegen.metrics.share import Share
    from facegen.metrics.trained_on import as_trained
    from facegen.status import say
    from facegen.training.run import distributed
    from facegen.training.run.launch import run_on_all

    options = as_trained(MetricsOptions.from_command(chosen), tell=not distributed.is_launched())
    if run_on_all(ctx, gpus):
        return
    with distributed.join(pick_device(device)) as own:
        share = Share(distributed.rank(), distributed.world_size(), distributed.gather)
        results = run_metrics(options, device=own, share=share)
    if share.rank > 0:
        return
    width = max(map(len, results))
    for name, value in results.items():
        say(f"{name:<{width}}  " + (f"{value:.6g}" if math.isfinite(value) else "too few real faces"))
    if json_file:
        about = {"network": options.network, "data": options.data, "seed": options.seed}
        write_json(json_file, {**about, "results": finite_or_none(results)})
