"""`facegen metrics`: how good a generator's faces are, against an archive."""

from __future__ import annotations

import math
from typing import Any

import click

from facegen.metrics.options import MetricsOptions
from facegen.options import click_options


@click.command()
@click_options(MetricsOptions)
@click.option("--json", "json_file", type=click.Path(), help="Write the numbers to this file, too.")
@click.option("--device", help="cpu, cuda, cuda:1, ... [default: a GPU if there is one].")
def command(json_file: str | None, device: str | None, **chosen: Any) -> None:
    """Measure how good a generator's faces are, compared with real ones.

    The networks that judge are downloaded once, or read from the files given. What they make of the real faces is
    kept, so that the next measurement only looks at new ones.

    \b
    Example:
      facegen metrics --network runs/00000-faces64 --data faces64.zip --metrics fid5k_full
    """
    from facegen.files import write_json
    from facegen.metrics.record import finite_or_none
    from facegen.metrics.run import run_metrics
    from facegen.status import say

    options = MetricsOptions.from_command(chosen)
    results = run_metrics(options, device=device)
    width = max(map(len, results))
    for name, value in results.items():
        say(f"{name:<{width}}  " + (f"{value:.6g}" if math.isfinite(value) else "too few real faces"))
    if json_file:
        about = {"network": options.network, "data": options.data, "seed": options.seed}
        write_json(json_file, {**about, "results": finite_or_none(results)})
