"""What to change in an encoded face, and how: ages as places in w.

A face has one latent and any number of ages. `LatentAges` turns the latent into the w of its own age and into the steps
that lead from there to other ages; a step may be taken in some layers only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from facegen.errors import FacegenError
from facegen.networks.age_shift import AgeShift, soft_labels
from facegen.networks.latents import place_latents

METHODS = ("swap", "shift")
MAX_AGES = 1000
# Karras et al. 2019, section 3.1: coarse styles are those of 4x4 and 8x8, middle ones of 16x16 and 32x32, fine ones of
# the rest. A w is counted at the resolution whose convolution it steers.
PARTS = {"coarse": (0, 3), "middle": (3, 7), "fine": (7, None)}

_RANGE = re.compile(r"(-?[\d.]+):(-?[\d.]+)(?::(-?[\d.]+))?")
_AGES_EXAMPLE = "write years, as in 5,25,45,65,85, or start:stop:step, as in 5:90:5"


@dataclass(frozen=True)
class Edit:
    """How age transfer changes a face.

    Args:
        method: `swap` gives the latent z another age group, which is all that an encoder of z allows for by itself;
            `shift` moves w by the difference of two ages' places and works with every encoder. None takes the
            encoder's own: swap for z, shift for w and w+.
        layers: Which w of the generator take the change, by index or as text, see `layer_indices`; None for all.
        psi: Below 1, faces are drawn towards the mean of their age.
        refine: Steps of refinement on each face, see `facegen.aging.refine`; 0 for none.
        refine_seconds: End the refinement of a face after about so many seconds; None for no limit.

    Raises:
        FacegenError: a value that makes no sense.
    """

    method: str | None = None
    layers: str | Sequence[int] | None = None
    psi: float = 1.0
    refine: int = 0
    refine_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise FacegenError(f"the method is one of {', '.join(METHODS)}, not {self.method!r}")
        if not math.isfinite(self.psi):
            raise FacegenError(f"psi must be a finite number, got {self.psi}")
        if self.refine < 0:
            raise FacegenError(f"refine is a number of steps, 0 for none, got {self.refine}")
        if self.refine_seconds is not None and not self.refine_seconds > 0:
            raise FacegenError(f"the time to refine must be more than 0 seconds, got {self.refine_seconds}")
        if self.refine_seconds is not None and self.refine == 0:
            raise FacegenError("a time to refine needs steps to take in it: give refine (--refine), too")


def parse_ages(text: str) -> list[float]:
    """Read ages in years: `5,25,62.5`, a range `start:stop:step` with both ends, or both, as in `1,5:90:5`.

    Whole years come as int, so that they read well. Raises a FacegenError for anything else.
    """
    ages: list[float] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        try:
            numbers = [float(number) for number in match.groups(default="1")] if match else [float(part)]
        except ValueError as error:
            raise FacegenError(f"{text!r} is no list of ages: {_AGES_EXAMPLE}") from error
        if not all(map(math.isfinite, numbers)):
            raise FacegenError(f"{text!r} is no list of ages: {_AGES_EXAMPLE}")
        if not match:
            ages += numbers
            continue
        start, stop, step = numbers
        if step == 0 or (stop - start) / step < 0:
            raise FacegenError(f"ages {part.strip()} never arrive: the step must lead from {start:g} to {stop:g}")
        count = int((stop - start) / step + 1e-9) + 1
        if count > MAX_AGES:
            raise FacegenError(f"ages {part.strip()} are {count}, more than {MAX_AGES}: take a larger step")
        ages += [round(start + index * step, 6) for index in range(count)]
    return [int(age) if age == int(age) else age for age in ages]


def layer_indices(layers: str | Sequence[int] | None, num_ws: int) -> list[int]:
    """Return which w of a generator are meant.

    Args:
        layers: `coarse` (layers 0-2: shape and pose), `middle` (3-6: features), `fine` (7 and up: colours and skin),
            indices and ranges, several with commas: `0-3`, `coarse,5,8-9`; or the indices; None for all.
        num_ws: How many there are.

    Raises:
        FacegenError: not understood, or the generator has no such layer.
    """
    if layers is None:
        return list(range(num_ws))
    chosen: set[int] = set()
    for part in layers.split(",") if isinstance(layers, str) else layers:
        text = str(part).strip()
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if text in PARTS:
            first, end = PARTS[text]
            indices = range(first, num_ws if end is None else min(end, num_ws))
        elif match:
            indices = range(int(match[1]), int(match[2] or match[1]) + 1)
        else:
            raise FacegenError(f"{text!r} names no layers: write {', '.join(PARTS)}, or numbers, as in 0-3,7")
        if not indices or indices[-1] >= num_ws:
            raise FacegenError(f"this generator has no layers {text}: it has {num_ws}, 0 to {num_ws - 1}")
        chosen |= set(indices)
    if not chosen:
        raise FacegenError("no layers given: name at least one, or None for all")
    return sorted(chosen)


class LatentAges:
    """Where encoded faces lie in w at any age.

    Args:
        generator: In evaluation mode.
        target: What the latents are: `z`, `w` or `w+`, see `facegen.networks.encoder`.
        shift: The places of ages in w.
        middles: The middle age of every group of the generator, growing.
        means: Of `latents.decode.group_means`.
    """

    def __init__(
        self, generator: nn.Module, target: str, shift: AgeShift, middles: Sequence[float], means: torch.Tensor
    ) -> None:
        self.generator, self.target, self.shift, self.middles, self.means = generator, target, shift, middles, means

    def method(self, edit: Edit) -> str:
        """The method of an edit; a FacegenError where the latents do not allow for it."""
        if edit.method is None:
            return "swap" if self.target == "z" else "shift"
        if edit.method == "swap" and self.target != "z":
            raise FacegenError(
                f"method swap needs an encoder that predicts z, and this one predicts {self.target}: "
                "use method shift, or an encoder trained with --recipe zmse"
            )
        return edit.method

    def place(self, latents: torch.Tensor, ages: torch.Tensor, psi: float = 1.0) -> torch.Tensor:
        """The w `[N, num_ws, w_dim]` of latents (`[N, z_dim]` or `[N, num_ws, w_dim]`) of faces of `ages` `[N]`.

        A latent z knows no age: with another age it is the same z in another group, which is what `swap` does. A latent
        w is of one age and stays.
        """
        labels = soft_labels(ages, self.middles)
        if self.target == "z":
            return torch.einsum("ng,ngld->nld", labels, self._in_groups(latents, psi))
        return (labels @ self.means)[:, None, :].lerp(latents, psi)

    def steps(self, latents: torch.Tensor, own: torch.Tensor, ages: torch.Tensor, edit: Edit) -> torch.Tensor:
        """What leads in w from the faces' own ages `[N]` to each of `ages` `[A]`: `[N, A, num_ws, w_dim]`."""
        if self.method(edit) == "shift":
            steps = self.shift.place(ages)[None] - self.shift.place(own)[:, None]
        else:
            change = soft_labels(ages, self.middles)[None] - soft_labels(own, self.middles)[:, None]
            steps = torch.einsum("nag,ngld->nald", change, self._in_groups(latents, edit.psi))
        changed = torch.zeros([self.generator.num_ws, 1], device=steps.device)
        changed[layer_indices(edit.layers, self.generator.num_ws)] = 1
        return steps * changed

    def _in_groups(self, z: torch.Tensor, psi: float) -> torch.Tensor:
        """The w of latents `[N, z_dim]` in every group: `[N, c_dim, num_ws, w_dim]`.

        The length of z says how far to go from the group's mean (see `latents.decode`). Between two groups a face lies
        on the straight line between its two w. The other way, a label between the two groups' for the mapping network,
        gives nearly the same faces, but the network scales the embedded label to one length, so that it turns fastest
        halfway: with labels that are far apart, ages would jump there.
        """
        groups = len(self.middles)
        labels = torch.eye(groups, device=z.device).repeat(len(z), 1)
        ws = place_latents(self.generator, z.repeat_interleave(groups, dim=0), labels, self.means, psi)
        return ws.unflatten(0, (len(z), groups))
