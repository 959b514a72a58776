"""The golden numbers: inputs and outputs of the reference implementation of StyleGAN2-ADA, in tests/golden/."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"

# Relative to max(1, largest expected magnitude). The numbers were computed in float32 by another order of operations:
# they agree to 1e-6 in most cases and to a few 1e-6 behind a whole network. A wrong formula differs by more than 1e-3.
TOLERANCE = 1e-4


class GoldenFile:
    """One `.npz` of golden numbers, read as tensors, and the `.json` beside it in `about`."""

    def __init__(self, name: str) -> None:
        self.about: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self._arrays = np.load(FOLDER / f"{name}.npz")

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self._arrays[key])

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return everything below `prefix/`, by the rest of its name."""
        return {key[len(prefix) + 1 :]: self[key] for key in self if key.startswith(f"{prefix}/")}

    def names_under(self, prefix: str) -> set[str]:
        """Return the names of the folders right below `prefix/`."""
        return {key.split("/")[0] for key in self.under(prefix) if "/" in key}


@cache
def golden(name: str) -> GoldenFile:
    """Open `name.npz` and `name.json`."""
    return GoldenFile(name)


def assert_golden(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare with a golden number; see `TOLERANCE`."""
    assert actual.shape == expected.shape
    difference = float((actual.detach().cpu() - expected).abs().max())
    assert difference < tolerance * max(1.0, float(expected.abs().max()))


def assert_all_golden(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Compare every stored number of a case: none may be left out."""
    assert set(actual) == set(expected)
    for name in expected:
        try:
            assert_golden(actual[name], expected[name])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
