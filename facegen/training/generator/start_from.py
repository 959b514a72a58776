"""Transfer learning: start a network from another one of other classes, resolution or width.

What fits by name and shape is taken. Where only the classes differ between none and some, more is possible:

- **Generator, unconditional to classes.** The first layer of the mapping sees z and the label side by side, and divides
  by the root of their number. So its columns for z are multiplied by sqrt(inputs now / inputs before) and its columns
  for the label are 0: G(z, c) is the old G(z) for every c, up to the rounding of that factor. The classes are learned
  all the same: the gradient of a column that is 0 is the label's feature times what comes back from the layer, and the
  embedding follows one step later, when the columns have left 0.
- **Discriminator, unconditional to classes.** Its logit is sum(out * cmap(c)) / sqrt(cmap_dim). The label's mapping
  keeps its random start, and the rows of the last layer are the old single row times p_k * sqrt(cmap_dim), where p is
  the shortest vector with sum(p * cmap(c)) = 1 for every class: D(img, c) is the old D(img) for every c, up to
  rounding. That has a solution for up to cmap_dim classes; beyond, the closest one is taken. (A constant cmap would do
  as well on the first step, but its entries would get equal gradients forever and never tell classes apart.)
- **Classes to unconditional.** The mapping's first layer keeps the mean of what the labels added; the discriminator is
  the mean over the classes, up to rounding.

Between two numbers of classes, only the label's embedding is new: each new class starts as a random label would. A
generator of another resolution shows the old picture only where it gets smaller (architecture `skip`); one that gets
larger starts with a random last block, and so does a larger discriminator with its first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.networks.layers import normalize_2nd_moment
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.transition import effective_parameters, label_weight
from facegen.weights.header import Header
from facegen.weights.load import read_networks
from facegen.weights.locate import kimg_of_name


@dataclass(frozen=True)
class CopyReport:
    """What became of the tensors of `copy_matching`, by name.

    Attributes:
        copied: taken as they are.
        adapted: taken into another shape, with the same effect.
        new: the target's own; the source has none of that name and shape.
        unused: the source's, without a place in the target.
    """

    copied: tuple[str, ...]
    adapted: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line, such as `copied 312 of 330 tensors; new: mapping.embed.*`."""
        target = {*self.copied, *self.adapted, *self.new}
        parts = [f"copied {len(self.copied)} of {len(target)} tensors"]
        for word, names, among in (
            ("adapted", self.adapted, target),
            ("new", self.new, target),
            ("not used", self.unused, {*self.copied, *self.adapted, *self.unused}),
        ):
            if names:
                parts.append(f"{word}: {', '.join(shorten(names, among))}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Start:
    """What weights give to a new run.

    Attributes:
        reports: what became of each network that they hold.
        kimg: how many thousand images they had seen; None where neither the file nor its name says.
        augment_p: the strength of augmentation that their training had reached; None where the file does not say.
    """

    reports: Mapping[str, CopyReport]
    kimg: float | None = None
    augment_p: float | None = None

    def decide(self, options: TrainOptions) -> TrainOptions:
        """Return the options with `nkimg` and `p`, where they leave them open.

        Raises:
            FacegenError: the weights have seen all that the run is to see.
        """
        nkimg, p = options.nkimg, options.p
        if nkimg is None:
            nkimg = self.kimg or 0
            if nkimg >= options.kimg:
                raise FacegenError(
                    f"{options.resume}: has seen {nkimg:g} kimg, and --kimg {options.kimg:g} is the total: give a "
                    "larger --kimg, or --nkimg 0 to count from 0"
                )
        if p is None:
            p = (self.augment_p or 0) if options.aug == "ada" else 0
        return replace(options, nkimg=nkimg, p=p)


def start_from(reference: str | os.PathLike[str], G: Generator, D: Discriminator, G_ema: Generator) -> Start:
    """Copy what fits of a weight file of any kind into new networks.

    Args:
        reference: what `facegen.weights.locate` takes. A file with only one of `G` and `G_ema` gives it to both;
            without `D`, D starts new.
        G, D, G_ema: the new networks; G_ema is the moving average of G.

    Raises:
        FileNotFoundError, FacegenError: no such file, no generator in it, or one with other latents.
    """
    loaded, header = read_networks(reference)
    _fade_in_place(loaded, header)
    average, current = loaded.get("G_ema", loaded.get("G")), loaded.get("G", loaded.get("G_ema"))
    if not isinstance(current, Generator):
        raise FacegenError(f"{reference}: holds {', '.join(loaded)}, but no generator to start from")
    latents = [(g.z_dim, g.w_dim, g.mapping.num_layers) for g in (current, G)]
    if latents[0] != latents[1]:
        was, would = (f"z of {z}, w of {w} and {layers} mapping layers" for z, w, layers in latents)
        raise FacegenError(
            f"{reference}: its generator has {was}, this run's --cfg needs {would}, so nothing would fit; choose "
            "the --cfg that it was trained with"
        )
    sources = {"G": (current, G), "D": (loaded.get("D"), D), "G_ema": (average, G_ema)}
    reports = {name: copy_matching(source, target) for name, (source, target) in sources.items() if source is not None}
    kimg = kimg_of_name(os.fspath(reference)) if header.kimg is None else header.kimg
    return Start(reports, kimg, header.augment_p)


def _fade_in_place(networks: dict[str, nn.Module], header: Header) -> None:
    """Let G and D of a snapshot from before labels counted in full take plain labels, as its G_ema does."""
    options = header.training_options
    images_seen = round((header.kimg or 0) * 1000)
    weight = label_weight(images_seen, options.get("t_start_kimg", 0), options.get("t_end_kimg"))
    if weight == 1:
        return
    for name in {"G", "D"} & networks.keys():
        network = networks[name]
        assert isinstance(network, Generator | Discriminator)
        effective = effective_parameters(network, weight)
        network.load_state_dict({key: value.detach().clone() for key, value in effective.items()}, strict=False)


def copy_matching(source: nn.Module, target: nn.Module) -> CopyReport:
    """Copy into `target` what fits of `source`, and report.

    Args:
        source: a generator, discriminator, or encoder; stays as it is.
        target: a network of the same kind.

    Raises:
        FacegenError: they are of different kinds.
    """
    if not (isinstance(source, type(target)) or isinstance(target, type(source))):
        raise FacegenError(f"a {type(target).__name__} cannot start from a {type(source).__name__}")
    own, other = target.state_dict(), source.state_dict()
    copied = [name for name, tensor in own.items() if name in other and other[name].shape == tensor.shape]
    adapted: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        if isinstance(source, Generator) and isinstance(target, Generator):
            adapted = _adapted_mapping(source, target)
        elif isinstance(source, Discriminator) and isinstance(target, Discriminator):
            adapted = _adapted_output(source, target)
    copied = [name for name in copied if name not in adapted]
    taken = {**{name: other[name] for name in copied}, **adapted}
    target.load_state_dict(taken, strict=False)
    return CopyReport(
        copied=tuple(copied),
        adapted=tuple(name for name in own if name in adapted),
        new=tuple(name for name in own if name not in taken),
        unused=tuple(name for name in other if name not in taken),
    )


def shorten(names: Collection[str], among: Collection[str]) -> list[str]:
    """Return names with `a.b.*` for every `a.b.` all of whose names among `among` are in `names`."""
    left_out = {part for name in among if name not in set(names) for part in _prefixes(name)}
    return list(dict.fromkeys(next((f"{p}.*" for p in _prefixes(name) if p not in left_out), name) for name in names))


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _adapted_mapping(source: Generator, target: Generator) -> dict[str, torch.Tensor]:
    """The first layer of the mapping, where labels come in addition or go away."""
    if source.z_dim != target.z_dim or (source.c_dim > 0) == (target.c_dim > 0):
        return {}
    before, now = source.mapping.fc0, target.mapping.fc0
    if len(before.weight) != len(now.weight):
        return {}
    weight = torch.zeros_like(now.weight)
    weight[:, : source.z_dim] = before.weight[:, : source.z_dim] * (before.weight_gain / now.weight_gain)
    bias = before.bias.clone()
    if source.c_dim > 0:
        classes = torch.eye(source.c_dim, device=before.weight.device)
        mean_label = normalize_2nd_moment(source.mapping.embed(classes)).mean(dim=0)
        bias += before.weight[:, source.z_dim :] @ mean_label * (before.weight_gain / before.bias_gain)
    return {"mapping.fc0.weight": weight, "mapping.fc0.bias": bias}


def _adapted_output(source: Discriminator, target: Discriminator) -> dict[str, torch.Tensor]:
    """The last layer, where labels come in addition or go away."""
    before, now = source.b4.out, target.b4.out
    if (source.c_dim > 0) == (target.c_dim > 0) or before.weight.shape[1] != now.weight.shape[1]:
        return {}
    if source.c_dim > 0:
        # [1, cmap_dim]: the weights of the rows in a logit, on average over the classes
        rows = _mapped_labels(source).mean(dim=0, keepdim=True) / math.sqrt(source.b4.cmap_dim)
    else:
        cmap = _mapped_labels(target)
        ones = torch.ones(len(cmap), 1, dtype=cmap.dtype, device=cmap.device)
        rows = torch.linalg.pinv(cmap) @ ones * math.sqrt(target.b4.cmap_dim)  # [cmap_dim, 1]
    return {
        "b4.out.weight": (rows @ before.weight.double()).float(),
        "b4.out.bias": (rows @ before.bias.double()).float(),
    }


def _mapped_labels(network: Discriminator) -> torch.Tensor:
    """What the label's mapping makes of each class, float64 `[c_dim, cmap_dim]`."""
    device = network.b4.out.weight.device
    return network.mapping(None, torch.eye(network.c_dim, device=device)).double()
