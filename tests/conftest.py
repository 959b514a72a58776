"""What every test starts with. Being here, it also puts this folder where tests find `golden_numbers`."""

import os

import pytest
import torch

# Tests work on small tensors, where a second thread only waits; the commands that they start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
# The numbers of float32, on any processor; who tests bfloat16 asks for it.
os.environ.setdefault("FACEGEN_BFLOAT16", "0")


@pytest.fixture(autouse=True)
def fixed_seed():
    """Nothing that a test draws depends on the tests before it."""
    torch.manual_seed(0)
