"""What every test starts with. Being here, it also puts this folder where tests find `golden_numbers`."""

import pytest
import torch


@pytest.fixture(autouse=True)
def fixed_seed():
    """Nothing that a test draws depends on the tests before it."""
    torch.manual_seed(0)
