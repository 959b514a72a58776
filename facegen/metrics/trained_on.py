"""Find the real faces that a generator was trained on, from its run folder or its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.files import at_home
from facegen.metrics.options import MetricsOptions
from facegen.reading import read_note
from facegen.status import say
from facegen.weights.load import read_networks
from facegen.weights.locate import RUN_OPTIONS, locate, shipped_file

ELSEWHERE = ("\\\\", "//")  # begin paths to other machines, which no stranger's file may have us visit


def as_trained(options: MetricsOptions, *, tell: bool = True) -> MetricsOptions:
    """Return options with a network and data; what was not given is that of the package, and that of its training.

    Args:
        options: Where they have data, flips that they leave open are left out.
        tell: Print a line that says what was found.

    Raises:
        FileNotFoundError: there is no such network, or what it was trained on is not there.
        FacegenError: nothing says what it was trained on.
    """
    network = options.network or str(shipped_file("generator"))
    if options.data is not None:
        return replace(options, network=network, mirror=bool(options.mirror), mirrory=bool(options.mirrory))
    path = locate(network)
    told = next((told for told in _told(path) if isinstance(_data(told), str)), None)
    if told is None:
        raise FacegenError(f"{path}: does not say what it was trained on: give --data ARCHIVE")
    data = _data(told)
    if data.startswith(ELSEWHERE) or not at_home(data).exists():
        raise FileNotFoundError(
            f"{path.name} was trained on {data}, which is missing: give its place with --data ARCHIVE"
        )
    x = told.get("mirror", told.get("xflip")) is True if options.mirror is None else options.mirror
    y = told.get("mirrory", told.get("yflip")) is True if options.mirrory is None else options.mirrory
    if tell:
        say(f"Note: as {path.name} was trained: --data {data}" + " --mirror" * x + " --mirrory" * y, err=True)
    return replace(options, network=network, data=data, mirror=x, mirrory=y)


def _told(path: Path) -> Iterator[Mapping[str, Any]]:
    """What may say it: the run folder, then the file; of other programs of the StyleGAN family, too."""
    options_file = path.parent / RUN_OPTIONS
    if options_file.is_file():
        options = read_note(options_file)
        yield options
        yield _mapping(options.get("training_set_kwargs"))
    header = read_networks(path, ("G_ema", "G"))[1]
    yield header.training_options
    yield _mapping(_mapping(header.get("origin")).get("training_set_kwargs"))


def _data(told: Mapping[str, Any]) -> Any:
    return told.get("data") or told.get("path")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
