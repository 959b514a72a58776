"""Options: presets and choices combined, impossible values refused in one line."""

from __future__ import annotations

import json

import pytest

from facegen.errors import FacegenError
from facegen.training.generator.options import TrainOptions
from facegen.training.run.folder import OPTIONS, read_options


def options(cfg: str = "tiny", **chosen) -> TrainOptions:
    return TrainOptions("faces.zip", cfg=cfg, **chosen).decide(64)


def test_choices_win_over_the_preset():
    chosen = options(gamma=3, batch=8, mirror=True)
    assert (chosen.gamma, chosen.batch, chosen.mirror) == (3, 8, True)
    assert chosen.channel_max == 128  # the preset's


def test_what_is_decided_stays():
    for chosen in (options(conv_clamp=5), options("paper256", fp32=True), options(resume="network.safetensors")):
        assert chosen.decide(1024) == chosen


def test_fp32_turns_half_precision_and_its_clamp_off():
    chosen = options("paper256", fp32=True)
    assert (chosen.num_fp16_res, chosen.conv_clamp) == (0, None)


def test_resume_from_weights_needs_no_run_up_and_adapts_fast():
    chosen = options(resume="network.safetensors")
    assert (chosen.ema_rampup, chosen.ada_kimg) == (None, 100)


def test_options_survive_a_file(tmp_path):
    chosen = options(mirror=True, aug="fixed", p=0.2)
    (tmp_path / OPTIONS).write_text(json.dumps(chosen.to_json()))
    assert read_options(tmp_path, TrainOptions) == chosen


def test_run_name_tells_what_is_special():
    chosen = options(mirror=True, aug="fixed", p=0.2, augpipe="bg")
    assert chosen.run_name() == "faces-cond-mirror-tiny-batch16-gamma0.05-p0.2-bg"
    assert options(even="gender").run_name() == "faces-cond-tiny-batch16-gamma0.05-ada-even-gender"


def test_options_of_before_even_are_read(tmp_path):
    values = {name: value for name, value in options().to_json().items() if name != "even"}
    (tmp_path / OPTIONS).write_text(json.dumps(values))
    assert read_options(tmp_path, TrainOptions) == options()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kimg": 0}, "kimg must be above 0"),
        ({"kimg": float("inf")}, "kimg must be a finite number"),
        ({"batch": 6}, "batch must be a multiple of 4"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": 0, "cfg": "auto"}, "batch must be at least 1"),
        ({"gamma": -1}, "gamma must be at least 0"),
        ({"aug": "fixed"}, "aug fixed needs p"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"aug": "adda"}, "aug 'adda': choose one of ada, fixed, noaug"),
        ({"augpipe": "bgx"}, "augpipe 'bgx': choose one of"),
        ({"target": 2}, "target must be between -1 and 1"),
        ({"p": 1.5}, "p must be between 0 and 1"),
        ({"snap": 0}, "snap must be above 0"),
        ({"balance": 2}, "balance must be between 0 and 1"),
        ({"freezed": -1}, "freezed must be at least 0"),
        ({"subset": 0}, "subset must be at least 1"),
    ],
)
def test_impossible_values_are_named(choice, message):
    with pytest.raises(FacegenError, match=message):
        options(**choice)


def test_a_folder_without_options_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        read_options(tmp_path, TrainOptions)


def test_options_of_another_version_are_refused(tmp_path):
    (tmp_path / OPTIONS).write_text('{"data": "faces.zip", "flux": 1}')
    with pytest.raises(FacegenError, match="flux"):
        read_options(tmp_path, TrainOptions)
