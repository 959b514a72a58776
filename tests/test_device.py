"""The device that a user names."""

from __future__ import annotations

import pytest
import torch

from facegen.device import cpu_has_bfloat16, pick_device, tf32, trains_in_bfloat16
from facegen.errors import FacegenError


def test_names_and_devices():
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu cpu"])
def test_a_device_that_is_not_there_is_named_in_one_line(name):
    with pytest.raises(FacegenError, match=f"device '{name}' cannot be used on this machine") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_bfloat16(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for answer in ("1", "0"):
        monkeypatch.setenv("FACEGEN_BFLOAT16", answer)
        assert cpu_has_bfloat16() is trains_in_bfloat16(cpu, fp32=False) is (answer == "1")
        assert not trains_in_bfloat16(cpu, fp32=True)
        assert not trains_in_bfloat16(gpu, fp32=False)
    monkeypatch.delenv("FACEGEN_BFLOAT16")
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert cpu_has_bfloat16() is has
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")  # a PyTorch that does not tell
    assert cpu_has_bfloat16() is False


def test_an_unknown_answer_about_bfloat16_is_refused(monkeypatch):
    monkeypatch.setenv("FACEGEN_BFLOAT16", "off")
    with pytest.raises(FacegenError, match="must be 0 or 1, got 'off'"):
        cpu_has_bfloat16()


def test_tf32_is_chosen_for_a_block_and_then_as_before():
    def chosen():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = chosen()
    with tf32(True):
        assert chosen() == (True, True)
        with tf32(False):
            assert chosen() == (False, False)
        assert chosen() == (True, True)
    assert chosen() == before
