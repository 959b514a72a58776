"""What `facegen info` tells of a weight file, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facegen.reading import is_number
from facegen.text import shown

MAX_TEXT = 2000  # characters of a line
MAX_NAME = 200  # of a tensor


def in_words(facts: dict[str, Any]) -> Iterator[str]:
    """What `facegen.weights.info.info` found, line by line; what the file does not tell is left out."""
    lines = [(shown(name), shown(text, MAX_TEXT)) for name, text in _facts(facts) if text]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        yield f"{name:<{width}}  {text}"
    if "layers" in facts:
        yield from _table(facts["layers"])


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and texts."""
    from facegen.weights.header import Header  # imports torch, which the list of runs does not need

    options, origin, metrics = (_mapping(facts.get(name)) for name in ("training_options", "origin", "metrics"))
    measured = {**metrics, **facts}  # `scripts/export_pretrained.py` puts all that was measured among the metrics
    names, kimg = facts.get("class_names") or facts.get("groups"), Header(facts).kimg
    return [
        ("file", facts["file"]),
        ("format", facts["format"]),
        ("refused", facts["refused"]),
        ("names", _listed(facts.get("globals"))),
        ("size", f"{facts['bytes']:,} bytes"),
        ("sha256", facts["sha256"]),
        *((name or "tensors", _network(entry)) for name, entry in facts["networks"].items()),
        ("latents", _latents(_mapping(facts.get("latents")))),
        ("left out", _listed(facts.get("left_out"))),
        ("classes", _listed(names)),
        ("aligned to", "a template of five points" if facts.get("template") else ""),
        ("images seen", "" if kimg is None else f"{kimg:,g} thousand"),
        ("trained on", options.get("data") or _mapping(origin.get("training_set_kwargs")).get("path")),
        ("which half", options.get("half")),
        ("started from", options.get("resume")),
        ("blended of", _blended(_mapping(facts.get("blended")))),
        ("faces from", options.get("generator") or _mapping(facts.get("trained_for")).get("generator")),
        ("validated", _age_errors(measured) or edits_in_words(measured)),
        ("metrics", ", ".join(f"{name} {value}" for name, value in metrics.items() if not isinstance(value, dict))),
        ("assumed", _listed(origin.get("assumed"))),
        *(
            (f"source of {name}", f"lines: {source.get('lines')}, sha256 {source.get('sha256')}; text that was not run")
            for name, source in _mapping(origin.get("sources")).items()
            if isinstance(source, dict)
        ),
        ("license", facts.get("license") or ("not stated" if facts["networks"] else "")),
    ]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""


def _blended(blended: dict[str, Any]) -> str:
    """Which two networks a blend was made of."""
    names = [_mapping(blended.get(name)).get("generator") for name in ("low", "high")]
    return f"{names[0]} up to {blended.get('split')} pixels, {names[1]} above" if blended else ""


def _latents(entry: Mapping[str, Any]) -> str:
    """`3 of 18x512 (num_ws x w_dim), float32`."""
    *more, length = entry.get("shape") or [0]
    if len(more) == 2:
        return f"{more[0]} of {more[1]}x{length} (num_ws x w_dim), {entry['dtype']}"
    if len(more) == 1:
        return f"one of {more[0]}x{length} (num_ws x w_dim), or {more[0]} of {length} for all layers, {entry['dtype']}"
    return f"one of {length} for all layers, {entry['dtype']}" if length else ""


def _age_errors(facts: dict[str, Any]) -> str:
    """What an age estimator's file says of its errors."""
    mae = facts.get("val_mae")
    if not isinstance(mae, (int, float)):
        return ""
    rows = {**_mapping(facts.get("val_by_group")), **_mapping(facts.get("val_by_sex"))}
    groups = ", ".join(f"{name}: {row['mae']}" for name, row in rows.items() if "mae" in _mapping(row))
    faces = f" on {facts['val_faces']:,} faces" if isinstance(facts.get("val_faces"), int) else ""
    return f"MAE {mae:.2f} years{faces}" + (f" ({groups})" if groups else "")


def edits_in_words(numbers: Mapping[str, Any]) -> str:
    """Say how an editor did on faces held back: `age error 4.21 years, identity 0.612, sex kept 97%`."""
    words = {
        "val_age_error": "age error {:.2f} years",
        "val_identity": "identity {:.3f}",
        "val_sex_kept": "sex kept {:.0%}",
    }
    return ", ".join(text.format(numbers[name]) for name, text in words.items() if is_number(numbers.get(name)))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _network(entry: dict[str, Any]) -> str:
    kwargs = entry["kwargs"]
    size = kwargs.get("img_resolution")
    colors = {1: " gray", 3: " RGB"}.get(kwargs.get("img_channels"), "")
    input_size = kwargs.get("input_size") if "arch" in kwargs else None
    parts = [
        entry["class"],
        f"{kwargs['arch']} of widths {kwargs.get('widths')}" if "arch" in kwargs else None,
        _edited(kwargs.get("ages")) if entry["class"] == "Editor" else None,
        f"input {input_size}x{input_size}" if input_size else None,
        f"{size}x{size}{colors}" if size else None,
        f"z {kwargs['z_dim']}" if "z_dim" in kwargs else None,
        f"w {kwargs['w_dim']}" if "w_dim" in kwargs else None,
        (f"{kwargs['c_dim']} classes" if kwargs["c_dim"] else "no classes") if "c_dim" in kwargs else None,
        f"{entry['parameters']:,} parameters in {entry['tensors']} tensors",
        entry["dtype"],
    ]
    return ", ".join(part for part in parts if part)


def _edited(ages: Any) -> str:
    """What an editor changes."""
    told = isinstance(ages, list) and len(ages) == 2 and all(map(is_number, ages))
    return "faces of any size" + (f" from {ages[0]:g} to {ages[1]:g} years" if told else "")


def _table(layers: list[dict[str, Any]]) -> Iterator[str]:
    """Every tensor in a line."""
    names = [shown(f"{row['network']}.{row['name']}" if row["network"] else row["name"], MAX_NAME) for row in layers]
    width = max(map(len, names), default=0)
    yield ""
    yield f"{'tensor':<{width}}  {'shape':<18} {'type':<9} {'numbers':>11} {'mean':>11} {'std':>11}"
    for name, row in zip(names, layers, strict=True):
        shape = "x".join(map(str, row["shape"])) or "scalar"
        mean, std = ("-" if row[key] is None else f"{row[key]:.4g}" for key in ("mean", "std"))
        yield f"{name:<{width}}  {shape:<18} {row['dtype']:<9} {row['parameters']:>11,} {mean:>11} {std:>11}"
