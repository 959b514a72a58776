"""A node for ComfyUI: the faces of a picture at another age. README.md says how to install it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

METHODS = {"generator": None, "editor": "editor"}


class FaceAge:
    """Changes the age of all faces; a picture without a face stays as it is."""

    DESCRIPTION = "Shows the faces of a picture at another age."
    CATEGORY = "image/face"
    FUNCTION = "change"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What ComfyUI shows on the node."""
        strength = "How much of the change to apply, unless auto_strength finds what makes each face look the age."
        return {
            "required": {
                "image": ("IMAGE",),
                "age": ("FLOAT", {"default": 70.0, "min": 0.0, "max": 120.0, "step": 1.0}),
                "method": (list(METHODS), {"tooltip": "The editor comes closer to the age."}),
                "auto_strength": ("BOOLEAN", {"default": True}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 3.0, "step": 0.1, "tooltip": strength}),
                "refine": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "Generator only: steps; try 150."}),
            }
        }

    def change(
        self, image: torch.Tensor, age: float, method: str, auto_strength: bool, strength: float, refine: int
    ) -> tuple[torch.Tensor]:
        """Return pictures, float [B, H, W, 3 or 4] in 0..1, with their faces at an age."""
        import facegen  # only when the node runs: ComfyUI imports all nodes at its start

        edit = facegen.Edit(method=METHODS[method], strength=None if auto_strength else strength, refine=refine)
        results = image.clone()
        for picture, result in zip(image, results, strict=True):
            before = (picture[..., :3].cpu().clamp(0, 1) * 255).round().byte().numpy()
            photos, _ = _transfer().transfer(Image.fromarray(before), [age], edit=edit, progress=_progress())
            if photos:
                after = np.asarray(photos[0])
                changed = torch.from_numpy(after != before)  # the others keep more than 8 bits
                new = torch.where(changed, torch.from_numpy(after / np.float32(255)), picture[..., :3].cpu())
                result[..., :3] = new.to(result)
        return (results,)


@cache
def _transfer() -> Any:
    import facegen

    return facegen.AgeTransfer.from_files()


def _progress() -> Any:
    """ComfyUI's bar on the node while faces are refined; it also heeds the button that cancels."""
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        return False
    return ProgressBar(1).update_absolute


NODE_CLASS_MAPPINGS = {"FacegenFaceAge": FaceAge}
NODE_DISPLAY_NAME_MAPPINGS = {"FacegenFaceAge": "Face age (facegen)"}
