"""Adaptive discriminator augmentation: the rule that moves the augmentation probability (Karras et al. 2020b, 3.1)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed

from facegen.errors import FacegenError
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.run.check_state import as_dict, number, whole


class AdaController:
    """Raises p while the discriminator overfits, lowers it otherwise.

    The sign of overfitting is r_t, the mean of sign(D(real)): 0 without, 1 with complete overfitting. Every `interval`
    minibatches p moves toward r_t = `target`, at a speed that takes it from 0 to 1 in `kimg` thousand images.

    Args:
        target: the r_t to hold, -1..1.
        interval: minibatches between two adjustments.
        kimg: speed; larger is slower.

    Example:
        >>> ada = AdaController(target=0.6)
        >>> ada.update(discriminator(real_images))      # every time the discriminator sees real images
        >>> ada.adjust(augment_pipe, batch_size=32)     # after every minibatch; every fourth time p moves
        False
    """

    def __init__(self, target: float = 0.6, interval: int = 4, kimg: float = 500) -> None:
        if not -1 <= target <= 1:
            raise FacegenError(f"The target of the adaptive augmentation lies in -1..1 (usual: 0.6), not {target}.")
        if interval < 1 or kimg <= 0:
            raise FacegenError(f"ADA needs interval >= 1 and kimg > 0, not interval {interval} and kimg {kimg}.")
        self.target = target
        self.interval = interval
        self.kimg = kimg
        self.sign_mean: float | None = None  # r_t at the last adjustment, for the log
        self._minibatches = 0
        self._sum = torch.zeros([])  # of the signs since the last adjustment, on the logits' device
        self._count = 0

    def update(self, logits: torch.Tensor) -> None:
        """Count outputs of the discriminator for real images (any shape). Does not wait for the GPU.

        If there are several processes, each gives as many outputs of its own, and all count those of all.
        """
        signs, count = logits.detach().sign().sum(dtype=torch.float32), logits.numel()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(signs)
            count *= torch.distributed.get_world_size()
        self._sum = self._sum.to(logits.device) + signs
        self._count += count

    def adjust(self, pipe: AugmentPipe, batch_size: int) -> bool:
        """Move `pipe.p`. Call it after every minibatch: it acts in every `interval`-th call and then returns True.

        Args:
            pipe: its `p` is changed in place and stays >= 0.
            batch_size: images in a minibatch, all processes together.
        """
        self._minibatches += 1
        if self._minibatches % self.interval or self._count == 0:
            return False
        self.sign_mean = float(self._sum) / self._count  # the one time that the host waits for a GPU
        self._sum, self._count = torch.zeros_like(self._sum), 0
        excess = self.sign_mean - self.target
        direction = (excess > 0) - (excess < 0)
        step = direction * batch_size * self.interval / (self.kimg * 1000)
        p = torch.tensor(pipe.probability(), dtype=torch.float32) + step
        pipe.set_probability(float(p.clamp(min=0)))
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: what was counted since the last adjustment. `p` itself is saved with the pipe."""
        return {
            "minibatches": self._minibatches,
            "sign_mean": self.sign_mean,
            "sum": float(self._sum),
            "count": self._count,
        }

    def fitting(self, saved: Any, where: str) -> dict[str, Any]:
        """Return what a file holds, if `state_dict` can have given it; `where` is its name in the FacegenError."""
        saved = as_dict(saved, where)
        count = whole(saved.get("count"), f"{where}.count")
        if (mean := saved.get("sign_mean")) is not None:
            number(mean, f"{where}.sign_mean", -1, 1)
        return {
            "minibatches": whole(saved.get("minibatches"), f"{where}.minibatches"),
            "sign_mean": mean,
            "sum": number(saved.get("sum"), f"{where}.sum", -count, count),
            "count": count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, exactly, from what `state_dict` returned."""
        self._minibatches = int(state["minibatches"])
        self.sign_mean = state["sign_mean"]
        self._sum = torch.tensor(float(state["sum"]))
        self._count = int(state["count"])
