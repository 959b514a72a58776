"""From z and a label to w, and toward the mean of w: truncation (Karras et al. 2019, appendix B)."""

from __future__ import annotations

from functools import cached_property

import torch

from facegen.errors import FacegenError
from facegen.latents.options import CENTERS
from facegen.networks.generator import Generator
from facegen.networks.latents import group_means


def map_latents(generator: Generator, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the w `[N, num_ws, w_dim]` of latents z with their labels, not truncated.

    Args:
        generator: in evaluation mode.
        z: `[N, z_dim]`.
        labels: `[N, c_dim]`, how much of each class; a row adds up to 1. A face between two classes lies on the line
            between its two w: the mapping network scales the embedded label to one length, so a label in between
            would jump halfway.
    """
    device = next(generator.parameters()).device
    z, labels = z.to(device), labels.to(device)
    with torch.no_grad():
        if generator.c_dim == 0:
            return generator.mapping(z, None)
        ws = z.new_zeros([len(z), generator.num_ws, generator.w_dim])
        one_hot = torch.eye(generator.c_dim, dtype=torch.float32, device=device)
        for index in labels.any(dim=0).nonzero().flatten().tolist():
            rows = labels[:, index].nonzero().flatten()
            w = generator.mapping(z[rows], one_hot[index].expand(len(rows), -1))
            ws.index_add_(0, rows, w * labels[rows, index, None, None])
        return ws


class Truncation:
    """Draws w toward a mean: psi 1 leaves a face as it is, 0 gives the mean, below 0 its opposite.

    Args:
        generator: whose w.
        psi: how much of the distance to the mean stays.
        cutoff: truncate only this many of the first w; None for all.
        center: `class` draws a face toward the mean of its own class; `global` toward the one mean of all classes,
            `mapping.w_avg`, as the ancestors do, which makes every face middle-aged. Without classes both are w_avg.
    """

    def __init__(
        self, generator: Generator, psi: float = 1.0, cutoff: int | None = None, center: str = CENTERS[0]
    ) -> None:
        if center not in CENTERS:
            raise FacegenError(f"truncation center {center!r}: choose one of {', '.join(CENTERS)}")
        if cutoff is not None and not 0 <= cutoff <= generator.num_ws:
            raise FacegenError(f"this generator has {generator.num_ws} w: truncate 0 to {generator.num_ws} of them")
        self.generator, self.psi, self.cutoff, self.center = generator, psi, cutoff, center

    def __call__(self, ws: torch.Tensor, labels: torch.Tensor, psi: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return ws `[N, num_ws, w_dim]` of labels `[N, c_dim]`, truncated.

        Args:
            psi: another one than the constructor's, or `[N]`, one for each.
        """
        if self._leaves(psi):
            return ws
        return self.toward(self.centers(labels), ws, psi)

    def toward(self, centers: torch.Tensor, ws: torch.Tensor, psi: float | torch.Tensor | None = None) -> torch.Tensor:
        """Return ws `[N, num_ws, w_dim]` truncated toward centers `[N, w_dim]`, whatever their labels."""
        if self._leaves(psi):
            return ws
        psi = self.psi if psi is None else psi
        psi = torch.as_tensor(psi).to(ws).expand(len(ws))[:, None, None]
        truncated = centers[:, None].lerp(ws, psi)
        return (
            torch.cat([truncated[:, : self.cutoff], ws[:, self.cutoff :]], dim=1)
            if self.cutoff is not None
            else truncated
        )

    def _leaves(self, psi: float | torch.Tensor | None) -> bool:
        """Whether this truncation leaves every w as it is, so that no center is needed."""
        psi = self.psi if psi is None else psi
        return not isinstance(psi, torch.Tensor) and psi == 1

    def centers(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the means `[N, w_dim]` that faces of labels `[N, c_dim]` are drawn toward."""
        if self.center == "class" and self.generator.c_dim > 0:
            return labels.to(self._class_means) @ self._class_means
        if self.generator.mapping.w_avg_beta is None:
            raise FacegenError("this generator has no mean of w, so truncation is not possible")
        return self.generator.mapping.w_avg.expand(len(labels), -1)

    @cached_property
    def _class_means(self) -> torch.Tensor:
        return group_means(self.generator)
