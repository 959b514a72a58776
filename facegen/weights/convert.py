"""From one format of weights to another."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.files import at_home, check_free
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.weights.formats import FORMATS, HOLDS, PARTS, SUFFIXES
from facegen.weights.header import Header
from facegen.weights.load import read_networks
from facegen.weights.locate import locate
from facegen.weights.native import network_kinds, save_networks


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    to: str | None = None,
    network: str | None = None,
    group: str | None = None,
    truncation_psi: float | None = None,
    groups: AgeGroups | None = None,
    force_fp16: bool = False,
    force: bool = False,
) -> list[str]:
    """Write the networks of one file in another format, atomically.

    Args:
        source: What `facegen.weights.load.read_networks` reads.
        destination: The new file.
        to: One of `FORMATS`; None goes by the destination's suffix, where a generator as `.pt` is rosinality's.
        network: One of `KINDS`, or of `PARTS` for `onnx` and `torchscript`; None takes all for `safetensors` and `pkl`,
            else the generator, else the encoder.
        group: Age group (or class name) of a conditional generator, for `rosinality` alone.
        groups: Age groups of a generator whose file does not say which they are; the new file says them.
        truncation_psi: Fixed in the graph of a generator, for `onnx` and `torchscript` alone; None for 1.
        force_fp16: Let generator and discriminator use float16 on a GPU; for `safetensors` and `pkl` alone.
        force: Replace the destination if it is there.

    Returns:
        Lines for people: what was written, and what was left out.

    Raises:
        FileNotFoundError: no such source.
        FacegenError: the format cannot hold what is asked for, or the destination is there or the source.
    """
    destination = at_home(destination)
    to = _format(destination, to, network)
    _check(to, network, group, truncation_psi, force_fp16)
    path = locate(source)
    check_destination(destination, path, force)

    networks, header = read_networks(path)
    header = header if groups is None else _with_groups(header, networks, groups)
    kept = _choose(path, networks, to, network)
    kept = {name: _with_float16(chosen) for name, chosen in kept.items()} if force_fp16 else kept
    lines = _left_out(networks, kept, header, to)
    if to == "safetensors":
        save_networks(destination, kept, header.metadata)
    elif to == "pkl":
        from facegen.weights.export.pickle import write_pickle

        origin = header.get("origin") or {}
        write_pickle(destination, kept, origin.get("training_set_kwargs"), metadata=header.metadata)
    elif to == "rosinality":
        (generator,) = kept.values()
        lines.append(_export_rosinality(path, generator, destination, header, group))
    else:
        ((name, chosen),) = kept.items()
        about = {**header.metadata, "network": name}
        lines.append(_export_graph(chosen, network, destination, to, truncation_psi, about))
    return [*lines, f"{destination}: {', '.join(kept)} as {to}"]


def _left_out(networks: Mapping[str, nn.Module], kept: Mapping[str, nn.Module], header: Header, to: str) -> list[str]:
    """Say what of the source is not in the new file."""
    lines = [f"left out: {name}, {_no_place(networks[name], to)}" for name in networks if name not in kept]
    return lines + [f"left out: {name}, of another program" for name in header.left_out]


def _with_groups(header: Header, networks: Mapping[str, nn.Module], groups: AgeGroups) -> Header:
    for network in networks.values():
        if isinstance(network, Generator) and network.c_dim > 0:
            header.groups_of(network.c_dim, groups)
    return Header({**header, "groups": groups.labels})


def _with_float16(network: nn.Module) -> nn.Module:
    """The same network with float16 at its four highest resolutions, and the clamps that this needs."""
    faster, kwargs = {"num_fp16_res": 4, "conv_clamp": 256}, dict(getattr(network, "init_kwargs", {}))
    if isinstance(network, Generator):
        kwargs["synthesis_kwargs"] = {**(kwargs.get("synthesis_kwargs") or {}), **faster}
    elif isinstance(network, Discriminator):
        kwargs |= faster
    else:
        return network
    changed = type(network)(**kwargs).eval().requires_grad_(False)
    changed.load_state_dict(network.state_dict())
    return changed


def check_destination(destination: Path, source: Path, force: bool) -> None:
    """Raise a FacegenError unless the file can be written without a loss."""
    if destination.is_dir():
        raise FacegenError(f"{destination}: is a folder: name the file to write")
    if destination.exists() and destination.samefile(source):
        raise FacegenError(f"{destination}: is the input file: choose another name")
    check_free(destination, force)


def _check(to: str, network: str | None, group: str | None, truncation_psi: float | None, force_fp16: bool) -> None:
    """Raise a FacegenError for what the format has no use for."""
    if network is not None and network not in HOLDS[to]:
        article = "an" if network[0] in "aeiou" else "a"
        raise FacegenError(f"{to} cannot hold {article} {network}, only {_listed(HOLDS[to], 'and')}")
    if group is not None and to != "rosinality":
        raise FacegenError(f"only rosinality needs one age group; {to} keeps all of them: leave out the group")
    if truncation_psi is not None and to not in ("onnx", "torchscript"):
        raise FacegenError(f"truncation can only be built into onnx and torchscript; {to} keeps the mean w for it")
    if truncation_psi is not None and not math.isfinite(truncation_psi):
        raise FacegenError(f"truncation cannot be {truncation_psi}")
    if force_fp16 and to not in ("safetensors", "pkl"):
        raise FacegenError(f"--force-fp16 is for safetensors and pkl, and {to} computes in float32: leave it out")


def _export_rosinality(path: Path, network: nn.Module, destination: Path, header: Header, group: str | None) -> str:
    """Write for rosinality; return a line with the arguments of its generator."""
    from facegen.weights.export.rosinality import export_rosinality

    assert isinstance(network, Generator)  # the one kind that `HOLDS` allows
    needed = export_rosinality(network, destination, class_index=_class_index(path, network, header, group))
    arguments = ", ".join(f"{name}={value}" for name, value in needed.items())
    return f"load it into rosinality's Generator({arguments})"


def _export_graph(
    network: nn.Module,
    asked: str | None,
    path: Path,
    to: str,
    truncation_psi: float | None,
    metadata: Mapping[str, Any],
) -> str:
    """Write ONNX or TorchScript; return a line on how close it comes to PyTorch."""
    part = asked if asked in PARTS else None
    if truncation_psi is not None and (part or not isinstance(network, Generator)):
        what = part or type(network).__name__.lower()
        raise FacegenError(f"{path}: only a generator has truncation, not the {what}: leave it out")
    from facegen.weights.export import graph

    export = graph.export_onnx if to == "onnx" else graph.export_torchscript
    psi = 1.0 if truncation_psi is None else truncation_psi
    if part is not None:
        metadata = {**metadata, "part": part}
    elif isinstance(network, Generator):
        metadata = {**metadata, "truncation_psi": psi}
    difference = export(network, path, part=part, truncation_psi=psi, metadata=metadata)
    return f"checked: at most {difference:.1g} from what PyTorch computes"


def _format(destination: Path, to: str | None, network: str | None) -> str:
    suffix = destination.suffix.lower()
    if to is None and suffix == ".pt" and network in (None, "generator"):
        to = "rosinality"  # what the family writes; of other networks it can only be TorchScript
    elif to is None:
        to = SUFFIXES.get(suffix, "torchscript" if suffix == ".pt" else None)
    if to is None:
        raise FacegenError(
            f"{destination}: its name does not tell the format: choose one of {', '.join(FORMATS)} with --to"
        )
    if to not in FORMATS:
        raise FacegenError(f"unknown format {to!r}: choose one of {', '.join(FORMATS)}")
    return to


def _choose(path: Path, networks: Mapping[str, nn.Module], to: str, network: str | None) -> dict[str, nn.Module]:
    """Which networks are written; FacegenError if none fits."""
    kinds = _kinds_and_parts()
    fitting = {
        kind: {name: candidate for name, candidate in networks.items() if isinstance(candidate, kinds[kind])}
        for kind in HOLDS[to]
        if network in (None, kind)
    }
    if to not in ("safetensors", "pkl"):  # one network, of the kind that comes first
        for named in fitting.values():
            if named:
                name = "G_ema" if "G_ema" in named else next(iter(named))
                return {name: named[name]}
    kept = {name: candidate for named in fitting.values() for name, candidate in named.items()}
    if not kept:
        hint = "; --to chooses another format" if network is None else ""
        raise FacegenError(f"{path}: holds {', '.join(networks)}: no {_listed(fitting, 'or')} to write as {to}{hint}")
    return {name: candidate for name, candidate in networks.items() if name in kept}


def _kinds_and_parts() -> dict[str, type[nn.Module]]:
    return {**network_kinds(), **dict.fromkeys(PARTS, Generator)}


def _listed(names: Iterable[str], word: str) -> str:
    """`one, two and three`."""
    *names, last = names
    return f"{', '.join(names)} {word} {last}" if names else last


def _no_place(network: nn.Module, to: str) -> str:
    kinds = _kinds_and_parts()
    if any(isinstance(network, kinds[kind]) for kind in HOLDS[to]):
        return "not asked for"
    return f"for which {to} has no place"


def _class_index(path: Path, generator: Generator, header: Header, group: str | None) -> int | None:
    """The class of an age group's label; None for an unconditional generator."""
    if generator.c_dim == 0:
        if group is not None:
            raise FacegenError(f"{path}: the generator has no age groups: leave out the group")
        return None
    names = header.groups.labels if header.groups else header.class_names
    if not names:
        default = AgeGroups.default().labels
        names = default if len(default) == generator.c_dim else [str(i) for i in range(generator.c_dim)]
    if group not in names:
        problem = "rosinality's generator has no classes" if group is None else f"there is no age group {group!r}"
        raise FacegenError(f"{path}: {problem}: choose one of {', '.join(names)} with --group")
    return names.index(group)
