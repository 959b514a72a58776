"""`facegen metrics`: how good a generator's faces are, against an archive."""

from __future__ import annotations

import math

import click

from facegen.metrics.names import EXAMPLES


@click.command()
@click.option("--network", required=True, metavar="N", help="Generator: a weight file, a run folder, an address, ...")
@click.option("--data", required=True, type=click.Path(), help="Training archive (zip or folder) with the real faces.")
@click.option(
    "--metrics",
    "names",
    default="fid50k_full",
    show_default=True,
    metavar="NAMES",
    help=f"{EXAMPLES}, or any other number (fid5k_full).",
)
@click.option("--per-group", is_flag=True, help="Measure every age group apart, too.")
@click.option("--inception", type=click.Path(), help="Weights of the Inception network [default: downloaded].")
@click.option("--vgg", type=click.Path(), help="Weights of VGG16, for pr and ppl [default: downloaded].")
@click.option("--lpips", type=click.Path(), help="Weights of LPIPS, for ppl [default: downloaded].")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Pictures at a time.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of latents, labels and noise.")
@click.option("--json", "json_file", type=click.Path(), help="Write the numbers to this file, too.")
@click.option("--device", help="cpu, cuda, cuda:1, ... [default: a GPU if there is one].")
def command(
    network: str,
    data: str,
    names: str,
    per_group: bool,
    inception: str | None,
    vgg: str | None,
    lpips: str | None,
    batch: int,
    seed: int,
    json_file: str | None,
    device: str | None,
) -> None:
    """Measure how good a generator's faces are, compared with real ones.

    The networks that judge are downloaded once, or read from the files given. What they make of the real faces is
    kept, so that the next measurement only looks at new ones.

    \b
    Example:
      facegen metrics --network runs/00000-faces64 --data faces64.zip --metrics fid5k_full
    """
    from facegen.data.archive import FaceArchive
    from facegen.device import pick_device
    from facegen.files import write_json
    from facegen.metrics.evaluate import Evaluator
    from facegen.metrics.features import load_detectors
    from facegen.metrics.names import parse_metrics
    from facegen.metrics.record import finite_or_none
    from facegen.weights.load import load_generator

    metrics = parse_metrics(names)
    if not metrics:
        raise click.UsageError("--metrics names none; try fid5k_full")
    where = pick_device(device)
    generator, _ = load_generator(network)
    archive = FaceArchive(data, use_labels=per_group or generator.c_dim > 0)
    detectors = load_detectors(metrics, inception=inception, vgg=vgg, lpips=lpips, device=where)
    evaluator = Evaluator(archive, names, detectors, per_group=per_group, batch=batch, seed=seed)
    results = evaluator.measure(generator.to(where))
    width = max(map(len, results))
    for name, value in results.items():
        click.echo(f"{name:<{width}}  " + (f"{value:.6g}" if math.isfinite(value) else "too few real faces"))
    if json_file:
        content = {"network": network, "data": data, "seed": seed, "results": finite_or_none(results)}
        write_json(json_file, content, ascii=True)
