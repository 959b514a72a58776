"""Options: presets and choices combined, impossible values refused in one line."""

from __future__ import annotations

import json

import pytest

from facegen.errors import FacegenError
from facegen.training.generator.options import TrainOptions, resolve_options

BASE = {"data": "faces.zip", "outdir": "runs", "resolution": 64, "cfg": "tiny"}


def test_choices_win_over_the_preset():
    options = resolve_options(**BASE, gamma=3, batch=8, mirror=True)
    assert (options.gamma, options.batch, options.mirror) == (3, 8, True)
    assert options.channel_max == 128  # the preset's


def test_fp32_turns_half_precision_and_its_clamp_off():
    options = resolve_options(**{**BASE, "cfg": "paper256"}, fp32=True)
    assert (options.num_fp16_res, options.conv_clamp) == (0, None)


def test_resume_from_weights_needs_no_run_up_and_adapts_fast():
    options = resolve_options(**BASE, resume="network.safetensors")
    assert (options.ema_rampup, options.ada_kimg) == (None, 100)


def test_options_survive_a_file(tmp_path):
    options = resolve_options(**BASE, mirror=True, aug="fixed", p=0.2)
    path = tmp_path / "training_options.json"
    path.write_text(json.dumps(options.to_dict()))
    assert TrainOptions.read(path) == options


def test_run_name_tells_what_is_special():
    options = resolve_options(**BASE, mirror=True, aug="fixed", p=0.2, augpipe="bg")
    assert options.run_name() == "faces-cond-mirror-tiny-batch16-gamma0.05-p0.2-bg"
    assert resolve_options(**BASE, even="gender").run_name() == "faces-cond-tiny-batch16-gamma0.05-ada-even-gender"


def test_options_of_before_even_are_read(tmp_path):
    options = resolve_options(**BASE)
    path = tmp_path / "training_options.json"
    path.write_text(json.dumps({name: value for name, value in options.to_dict().items() if name != "even"}))
    assert TrainOptions.read(path) == options


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kimg": 0}, "kimg must be above 0"),
        ({"kimg": float("inf")}, "kimg must be above 0 and finite"),
        ({"batch": 6}, "batch must be a multiple of 4"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": 0, "cfg": "auto"}, "batch must be at least 1"),
        ({"gamma": -1}, "gamma must be finite and not negative"),
        ({"aug": "fixed"}, "aug fixed needs p"),
        ({"seed": -1}, "seed must not be negative"),
        ({"aug": "adda"}, "aug 'adda': choose one of ada, fixed, noaug"),
        ({"augpipe": "bgx"}, "augpipe 'bgx': choose one of"),
        ({"target": 2}, "target must be between -1 and 1"),
        ({"p": 1.5}, "p must be between 0 and 1"),
        ({"snap": 0}, "tick and snap must be above 0"),
        ({"balance": 2}, "balance must be between 0 and 1"),
        ({"freezed": -1}, "freezed must not be negative"),
        ({"subset": 0}, "subset must be at least 1"),
        ({"mirrored": True}, "unknown training options: mirrored"),
    ],
)
def test_impossible_values_are_named(choice, message):
    with pytest.raises(FacegenError, match=message):
        resolve_options(**{**BASE, **choice})


def test_a_folder_without_options_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        TrainOptions.read(tmp_path / "training_options.json")


def test_options_of_another_version_are_refused(tmp_path):
    path = tmp_path / "training_options.json"
    path.write_text('{"data": "faces.zip", "flux": 1}')
    with pytest.raises(FacegenError, match="not the options of a training run of this version"):
        TrainOptions.read(path)
