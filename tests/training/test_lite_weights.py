"""Networks that start from the weights of an EfficientNet-Lite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import write_lite
from refusals import assert_refused
from torch.nn import functional

from facegen.networks.lite_features import Block, Stem, lite_stages
from facegen.training.lite_weights import EPS, fill_from_lite

WIDTHS = (4, 8, 12)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lite(tmp_path_factory.mktemp("lite") / "lite.pth", WIDTHS, (1, 2, 3))


def test_folded_convolutions_compute_the_same(file: Path):
    stem, stages = Stem(), lite_stages(WIDTHS, (1, 2, 2))  # fewer blocks than the file has
    fill_from_lite(stem, stages, file)
    found = torch.load(file, weights_only=True)

    def normalized(x: torch.Tensor, norm: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            found[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias, eps=EPS)

    levels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1)).float()
    padded = functional.pad((levels - 127) / 128, (0, 1, 0, 1))
    x = normalized(functional.conv2d(padded, found["_conv_stem.weight"], stride=2), "_bn0").clamp(0, 6)
    y = stem(levels / 127.5 - 1)
    torch.testing.assert_close(y, x, atol=1e-4, rtol=1e-4)
    for block, name in zip([b for b in stages.modules() if isinstance(b, Block)], (0, 1, 2, 3, 4), strict=True):
        name, inner = f"_blocks.{name}", y
        if f"{name}._expand_conv.weight" in found:
            inner = functional.conv2d(inner, found[f"{name}._expand_conv.weight"])
            inner = normalized(inner, f"{name}._bn0").clamp(0, 6)
        kernel, stride = found[f"{name}._depthwise_conv.weight"], block.depthwise.stride[0]
        before = (kernel.shape[-1] - 1) // 2 if stride == 1 else (kernel.shape[-1] - 2) // 2  # of an even side
        after = kernel.shape[-1] - stride - before
        inner = functional.conv2d(
            functional.pad(inner, (before, after, before, after)), kernel, None, stride, groups=len(kernel)
        )
        inner = functional.conv2d(normalized(inner, f"{name}._bn1").clamp(0, 6), found[f"{name}._project_conv.weight"])
        expected = normalized(inner, f"{name}._bn2") + (y if block.adds else 0)
        y = block(y)
        torch.testing.assert_close(y, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("widths", "depths", "reason"),
    [
        ((4, 8, 16), (1, 2, 2), "these widths: _blocks.3._project_conv.weight has the shape (12, 48, 1, 1), expected"),
        ((4, 8, 12), (1, 3, 2), "stage 2 has 2 blocks, which is less than 3"),
        ((4, 8, 12, 16), (1, 2, 2, 1), "stage 4 has 0 blocks"),
    ],
)
def test_a_file_of_another_network(file: Path, widths: tuple, depths: tuple, reason: str):
    assert_refused(reason, fill_from_lite, Stem(), lite_stages(widths, depths), file)


def test_a_file_of_something_else(tmp_path: Path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    reason = "other.pth: no EfficientNet-Lite of these widths: _conv_stem.weight is missing"
    assert_refused(reason, fill_from_lite, Stem(), [], tmp_path / "other.pth")
