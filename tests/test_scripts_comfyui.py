"""The node for ComfyUI, as ComfyUI loads and calls it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[1] / "scripts" / "comfyui"


@pytest.fixture(scope="module")
def nodes() -> ModuleType:
    """The folder as a module of ComfyUI's `custom_nodes`, which has a path as its name there."""
    name = str(FOLDER)
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


class Bar:
    """ComfyUI's progress bar."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None) -> None:
        self.seen.append((value, total or self.total))


def run(nodes: ModuleType, image: torch.Tensor, **given: Any) -> torch.Tensor:
    """Run the node with the values that ComfyUI shows at first, but for those given, in its way."""
    kind = nodes.NODE_CLASS_MAPPINGS["FacegenFaceAge"]
    inputs = kind.INPUT_TYPES()["required"]
    values = {name: _default(*what) for name, what in inputs.items() if name != "image"} | given
    with torch.inference_mode():
        outputs = getattr(kind(), kind.FUNCTION)(image=image, **values)
    assert len(outputs) == len(kind.RETURN_TYPES)
    return outputs[0]


def _default(kind: Any, options: dict[str, Any]) -> Any:
    return kind[0] if isinstance(kind, list) else options["default"]


def as_comfy(*pictures: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float() / 255


def test_what_comfyui_asks_a_node(nodes):
    assert set(nodes.NODE_DISPLAY_NAME_MAPPINGS) == set(nodes.NODE_CLASS_MAPPINGS)
    for kind in nodes.NODE_CLASS_MAPPINGS.values():
        assert kind.RETURN_TYPES == ("IMAGE",)
        assert isinstance(kind.CATEGORY, str)
        assert callable(getattr(kind, kind.FUNCTION))
        inputs = kind.INPUT_TYPES()["required"]
        assert inputs["image"] == ("IMAGE",)
        for what, options in (input for name, input in inputs.items() if name != "image"):
            assert isinstance(what, list) or what in ("FLOAT", "INT", "BOOLEAN")
            if what in ("FLOAT", "INT"):
                assert options["min"] <= options["default"] <= options["max"]


def test_a_face_changes_and_the_rest_keeps_its_values(nodes, hopper):
    image = as_comfy(hopper) * 0.999  # no multiple of 1/255: more than 8 bits
    result = run(nodes, image, age=25.0)
    assert result.shape == image.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    differs = (result != image).any(dim=-1)[0]
    assert differs[150:350, 170:370].float().mean() > 0.5  # her face
    assert not differs[:60].any()  # above her cap
    assert not differs[480:].any()


@pytest.mark.parametrize("method", ["generator", "editor"])
def test_strength_by_hand(nodes, hopper, method):
    image = as_comfy(hopper)
    none = run(nodes, image, method=method, auto_strength=False, strength=0.0)
    assert (none - image).abs().max() < 2 / 255
    half, whole = (run(nodes, image, method=method, auto_strength=False, strength=value) for value in (0.5, 1.0))
    assert (half - image).abs().mean() < (whole - image).abs().mean()


def test_a_batch_with_alpha_and_one_picture_without_a_face(nodes, hopper):
    empty = Image.new("RGB", hopper.size, "teal")
    image = torch.cat([as_comfy(hopper, empty), torch.full((2, *hopper.size[::-1], 1), 0.5)], dim=-1)
    result = run(nodes, image)
    assert torch.equal(result[1], image[1])
    assert torch.equal(result[..., 3], image[..., 3])
    assert not torch.equal(result[0], image[0])


def test_refinement_moves_comfyuis_bar(nodes, hopper, monkeypatch):
    utils = ModuleType("comfy.utils")
    utils.ProgressBar = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy", ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    Bar.seen.clear()
    run(nodes, as_comfy(hopper), refine=2)
    assert Bar.seen[-1] == (2, 2)
