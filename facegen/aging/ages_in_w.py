"""Ages in w: where a face of some age lies, and the step from there to another age.

A face has one latent and any number of ages. `LatentAges.place` turns the latent into the w of the face at its own age.
`LatentAges.steps` are added to that w to get the face at other ages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from facegen.aging.edit import Edit, layer_indices
from facegen.errors import FacegenError
from facegen.networks.age_shift import AgeShift, soft_labels
from facegen.networks.generator import Generator
from facegen.networks.latents import place_latents


class LatentAges:
    """Where encoded faces lie in w at any age.

    Args:
        generator: in evaluation mode.
        target: what the latents are: `z`, `w` or `w+`, see `facegen.networks.encoder`.
        shift: the places of ages in w.
        middles: the middle age of every group of the generator, growing.
        means: as returned by `group_means`.
    """

    def __init__(
        self, generator: Generator, target: str, shift: AgeShift, middles: Sequence[float], means: torch.Tensor
    ) -> None:
        self.generator, self.target, self.shift, self.middles, self.means = generator, target, shift, middles, means

    def method(self, edit: Edit) -> str:
        """The method of an edit, `swap` or `shift`; a FacegenError where the latents do not allow for it."""
        if edit.method is None:
            return "swap" if self.target == "z" else "shift"
        if edit.method == "editor":
            raise FacegenError("an editor only changes faces in photos: use method shift or swap here")
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
        """The steps in w `[N, A, num_ws, w_dim]` from the faces' own ages `[N]` to each of `ages` `[A]`.

        `shift` takes the difference between the places of the two ages, `swap` that between the two w of the latent z.
        What the edit holds is taken out of the steps; layers that the edit leaves out do not move.
        """
        if self.method(edit) == "shift":
            steps = self.shift.place(ages)[None] - self.shift.place(own)[:, None]
        else:
            change = soft_labels(ages, self.middles)[None] - soft_labels(own, self.middles)[:, None]
            steps = torch.einsum("nag,ngld->nald", change, self._in_groups(latents, edit.psi))
        changed = torch.zeros([self.generator.num_ws, 1], dtype=torch.float32, device=steps.device)
        changed[layer_indices(edit.layers, self.generator.num_ws)] = 1
        held = self.shift.holds if edit.hold is None else edit.hold
        return self.shift.hold(steps, held) * changed

    def _in_groups(self, z: torch.Tensor, psi: float) -> torch.Tensor:
        """The w of latents `[N, z_dim]` in every group: `[N, c_dim, num_ws, w_dim]`.

        The length of z says how far to go from the group's mean (see `facegen.networks.latents`). Between two groups a
        face lies on the straight line between its two w. The other way, a label between the two groups' for the mapping
        network, gives nearly the same faces, but the network scales the embedded label to one length, so that it turns
        fastest halfway: with labels that are far apart, ages would jump there.
        """
        groups = len(self.middles)
        labels = torch.eye(groups, dtype=torch.float32, device=z.device).repeat(len(z), 1)
        ws = place_latents(self.generator, z.repeat_interleave(groups, dim=0), labels, self.means, psi)
        return ws.unflatten(0, (len(z), groups))
