"""`facegen info`: what a weight file is."""

from __future__ import annotations

import json
from typing import Any

import click

MAX_TEXT = 2000  # characters of a line


@click.command()
@click.argument("file")
@click.option("--layers", is_flag=True, help="Also list every tensor: shape, type, mean and standard deviation.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def command(file: str, layers: bool, as_json: bool) -> None:
    """Show what the weight file FILE is: networks, classes, licence, checksum. Nothing in it is run.

    FILE is a file of facegen, a pickle of the StyleGAN2 family, a file of PyTorch, any other safetensors, or a run
    folder. A pickle that facegen refuses is told of all the same: what it names, and why it is refused.

    \b
    Example:
      facegen info ffhq.pkl --layers
    """
    from facegen.weights.info import describe

    facts = describe(file, layers=layers)
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    lines = _lines(facts)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:<{width}}  {text}")
    if layers:
        _print_layers(facts["layers"])


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is printed: headings and texts; what the file does not tell is left out."""
    from facegen.weights.family.safe_pickle import shown

    options, origin, metrics = (_mapping(facts.get(name)) for name in ("training_options", "origin", "metrics"))
    names, kimg = facts.get("class_names") or facts.get("groups"), facts.get("kimg")
    lines = [
        ("file", facts["file"]),
        ("format", facts["format"]),
        ("refused", facts["refused"]),
        ("names", _listed(facts.get("globals"))),
        ("size", f"{facts['bytes']:,} bytes"),
        ("sha256", facts["sha256"]),
        *((name or "tensors", _network(entry)) for name, entry in facts["networks"].items()),
        ("classes", _listed(names)),
        ("aligned to", "a template of five points" if facts.get("template") else ""),
        ("images seen", f"{kimg:,g} thousand" if isinstance(kimg, (int, float)) else ""),
        ("trained on", options.get("data") or _mapping(origin.get("training_set_kwargs")).get("path")),
        ("which half", options.get("half")),
        ("started from", options.get("resume")),
        ("faces from", options.get("generator")),
        ("validated", _age_errors(facts)),
        ("metrics", ", ".join(f"{name} {value}" for name, value in metrics.items())),
        ("assumed", _listed(origin.get("assumed"))),
        *(
            (f"source of {name}", f"lines: {source.get('lines')}, sha256 {source.get('sha256')}; text that was not run")
            for name, source in _mapping(origin.get("sources")).items()
            if isinstance(source, dict)
        ),
        ("licence", facts.get("license") or ("not stated" if facts["networks"] else "")),
    ]
    return [(shown(name), shown(text, MAX_TEXT)) for name, text in lines if text]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""


def _age_errors(facts: dict[str, Any]) -> str:
    """What an age estimator's file says of its errors."""
    mae, by_group = facts.get("val_mae"), _mapping(facts.get("val_by_group"))
    if not isinstance(mae, (int, float)):
        return ""
    groups = ", ".join(f"{name}: {row['mae']}" for name, row in by_group.items() if "mae" in _mapping(row))
    faces = f" on {facts['val_faces']:,} faces" if isinstance(facts.get("val_faces"), int) else ""
    return f"MAE {mae:.2f} years{faces}" + (f" ({groups})" if groups else "")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _network(entry: dict[str, Any]) -> str:
    kwargs = entry["kwargs"]
    size = kwargs.get("img_resolution")
    colours = {1: " grey", 3: " RGB"}.get(kwargs.get("img_channels"), "")
    input_size = kwargs.get("input_size") if "arch" in kwargs else None
    parts = [
        entry["class"],
        f"{kwargs['arch']} of widths {kwargs.get('widths')}" if "arch" in kwargs else None,
        f"input {input_size}x{input_size}" if input_size else None,
        f"{size}x{size}{colours}" if size else None,
        f"z {kwargs['z_dim']}" if "z_dim" in kwargs else None,
        f"w {kwargs['w_dim']}" if "w_dim" in kwargs else None,
        (f"{kwargs['c_dim']} classes" if kwargs["c_dim"] else "no classes") if "c_dim" in kwargs else None,
        f"{entry['parameters']:,} parameters in {entry['tensors']} tensors",
        entry["dtype"],
    ]
    return ", ".join(part for part in parts if part)


def _print_layers(layers: list[dict[str, Any]]) -> None:
    width = max((len(_full_name(row)) for row in layers), default=0)
    click.echo(f"\n{'tensor':<{width}}  {'shape':<18} {'type':<9} {'numbers':>11} {'mean':>11} {'std':>11}")
    for row in layers:
        shape = "x".join(map(str, row["shape"])) or "scalar"
        mean, std = ("-" if row[name] is None else f"{row[name]:.4g}" for name in ("mean", "std"))
        click.echo(
            f"{_full_name(row):<{width}}  {shape:<18} {row['dtype']:<9} {row['parameters']:>11,} {mean:>11} {std:>11}"
        )


def _full_name(row: dict[str, Any]) -> str:
    return f"{row['network']}.{row['name']}" if row["network"] else row["name"]
