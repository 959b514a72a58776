"""A generator's latent space: from seeds, labels and files to w, and from w to pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from facegen.ages import AgeGroups
from facegen.device import pick_device
from facegen.figures.grids import to_pixels
from facegen.latents.labels import Classes, Label
from facegen.latents.mapping import Truncation, map_latents
from facegen.latents.options import DrawingOptions, TruncationOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.networks.generator import Generator
from facegen.networks.sizes import check_size, synthesize
from facegen.weights.header import Header
from facegen.weights.load import load_generator
from facegen.weights.locate import shipped_file


class LatentSpace:
    """A generator's latent space: from seeds to w, and from w to pictures.

    Args:
        generator: any, with classes or without, in color or gray.
        header: what its file says about it.
        groups: the age groups of its classes, if the file does not say.
        truncation, drawing: how; None for the defaults.
        device: None uses a GPU if there is one.

    Example:
        >>> import facegen
        >>> space = facegen.LatentSpace.open()
        >>> label = space.classes.of_age(35)
        >>> picture = next(space.draw(space.from_seeds([7], label)))
        >>> picture.shape == (space.generator.img_resolution, space.generator.img_resolution, 3)
        True
    """

    def __init__(
        self,
        generator: Generator,
        header: Header | None = None,
        *,
        groups: AgeGroups | None = None,
        truncation: TruncationOptions | None = None,
        drawing: DrawingOptions | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        header = Header({}) if header is None else header
        truncation = truncation or TruncationOptions()
        self.device = pick_device(device)
        self.generator = generator.to(self.device).eval()
        self.header = header
        self.classes = Classes(generator.c_dim, header, groups)
        self.drawing = drawing or DrawingOptions()
        if self.drawing.size is not None:
            check_size(self.generator.synthesis, self.drawing.size)
        self.truncation = Truncation(self.generator, truncation.trunc, truncation.trunc_cutoff, truncation.trunc_center)

    @classmethod
    def open(
        cls,
        network: str | os.PathLike[str] | None = None,
        *,
        groups: AgeGroups | None = None,
        truncation: TruncationOptions | None = None,
        drawing: DrawingOptions | None = None,
        device: str | torch.device | None = None,
    ) -> LatentSpace:
        """Load a generator from anything that `facegen.load_generator` takes; None means the one in the package."""
        generator, header = load_generator(shipped_file("generator") if network is None else network)
        return cls(generator, header, groups=groups, truncation=truncation, drawing=drawing, device=device)

    def from_seeds(self, seeds: Sequence[int], label: Label) -> torch.Tensor:
        """Return the truncated w `[N, num_ws, w_dim]` of seeds, all of one label."""
        return self.from_z(torch.from_numpy(latents_of_seeds(seeds, self.generator.z_dim)), label.weights[None])

    def from_z(self, z: torch.Tensor, labels: torch.Tensor, psi: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return the truncated w `[N, num_ws, w_dim]` of latents z `[N, z_dim]`.

        Args:
            labels: how much of each class, `[N, c_dim]` or `[1, c_dim]`, see `map_latents`.
            psi: another truncation than the space's, or `[N]`, one for each.
        """
        labels = labels.expand(len(z), -1)
        return self.truncation(map_latents(self.generator, z, labels), labels, psi)

    def truncate(self, ws: torch.Tensor, label: Label | None = None) -> torch.Tensor:
        """Return ws `[N, num_ws, w_dim]` truncated toward the mean of a label's class, or of all classes (None)."""
        ws = ws.to(self.device)
        if label is None:
            center = Truncation(self.generator, self.truncation.psi, self.truncation.cutoff, "global")
            return center(ws, ws.new_zeros([len(ws), self.generator.c_dim]))
        return self.truncation(ws, label.weights.expand(len(ws), -1))

    def means(self, labels: Sequence[Label | None]) -> torch.Tensor:
        """Return the means that latents of labels are truncated toward, `[N, w_dim]`; None: that of all classes."""
        of_all = Truncation(self.generator, center="global")
        nothing = torch.zeros([1, self.generator.c_dim])
        means = [
            of_all.centers(nothing) if label is None else self.truncation.centers(label.weights[None])
            for label in labels
        ]
        return torch.cat(means)

    def draw(self, ws: Iterable[torch.Tensor], consts: Iterable[torch.Tensor] | None = None) -> Iterator[np.ndarray]:
        """Draw a picture of each w `[num_ws, w_dim]`, in order: uint8 `[H, W, 3]`, `[H, W, 1]` of a gray network.

        Pictures are drawn batch by batch when they are requested, so any number of them fits in memory. Random noise
        depends on the number of the picture, not on the batch.

        Args:
            consts: for each picture a replacement for the network's constant, `[channels, 4, 4]`.
        """
        draws_noise, rest, number = self.drawing.noise_mode == "random", iter(ws), 0
        others = None if consts is None else iter(consts)
        while batch := list(islice(rest, 1 if draws_noise else self.drawing.batch)):
            const = None if others is None else torch.stack(list(islice(others, len(batch))))
            yield from to_pixels(self._synthesize(torch.stack(batch), const, self.drawing.noise_seed + number))
            number += len(batch)

    def _synthesize(self, ws: torch.Tensor, const: torch.Tensor | None, noise_seed: int) -> torch.Tensor:
        """Pictures `[N, C, H, W]`, about -1..1, of ws `[N, num_ws, w_dim]`."""
        devices = [self.device] if self.device.type == "cuda" else []
        draws_noise = self.drawing.noise_mode == "random"
        with torch.no_grad(), torch.random.fork_rng(devices, enabled=draws_noise):
            if draws_noise:  # seeding takes longer than some batches
                torch.manual_seed(noise_seed)
            return synthesize(
                self.generator.synthesis,
                ws.to(self.device),
                self.drawing.size,
                self.drawing.scale_type,
                const=None if const is None else const.to(self.device),
                noise_mode=self.drawing.noise_mode,
                force_fp32=True if self.drawing.fp32 else None,
            )
