"""Options: presets and choices combined, impossible values refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from facegen.errors import FacegenError
from facegen.training.generator.options import PRESETS, TrainOptions, get_preset
from facegen.training.generator.parts import batch_parts
from facegen.training.run.folder import OPTIONS, read_options

DOCS = Path(__file__).resolve().parents[3] / "docs"


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


@pytest.mark.parametrize("later", [["even"], ["nkimg", "mirrory", "allow_tf32", "workers"]])
def test_options_of_earlier_versions_are_read(tmp_path, later):
    values = {name: value for name, value in options().to_json().items() if name not in later}
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
        ({"p": -0.5}, "p must be at least 0"),
        ({"aug": "fixed", "p": 1.5}, "p, the strength, above 0 and at most 1"),
        ({"lr": 0}, "lrate must be above 0"),
        ({"kimg": 100, "nkimg": 100}, r"nkimg must be below kimg \(100\)"),
        ({"workers": -1}, "workers must be between 0 and"),
        ({"snap": 0}, "snap must be above 0"),
        ({"snap_minutes": 0}, "snap-minutes must be"),
        ({"snap_minutes": float("nan")}, "snap-minutes must be"),
        ({"keep": 0}, "keep must be"),
        ({"balance": 2}, "balance must be between 0 and 1"),
        ({"freezed": -1}, "freezed must be at least 0"),
        ({"subset": 0}, "subset must be at least 1"),
    ],
)
def test_impossible_values_are_named(choice, message):
    with pytest.raises(FacegenError, match=message):
        options(**choice)


def test_options_of_another_version_are_refused(tmp_path):
    (tmp_path / OPTIONS).write_text('{"data": "faces.zip", "flux": 1}')
    with pytest.raises(FacegenError, match="flux"):
        read_options(tmp_path, TrainOptions)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"aug": "fixed", "p": 0.1, "target": 0.5}, ["--target 0.5"]),
        ({"aug": "noaug", "augpipe": "bg", "p": 0.1}, ["--augpipe bg", "--p 0.1"]),
        ({"subset": 21}, ["--subset 21: there are 20 pictures"]),
        ({"subset": 20, "target": 0.5, "augpipe": "bg", "p": 1.4}, []),
    ],
)
def test_choices_without_effect_are_told(chosen, words):
    lines = options(**chosen).left_aside(20)
    assert len(lines) == len(words)
    assert all(line.startswith(word) for line, word in zip(lines, words, strict=True))


# --- Presets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "batch", "expected"),
    [
        # the paper's heuristics: gamma = 0.0002 * resolution^2 / batch, half-life of the average = batch * 10 / 32
        (256, None, {"batch": 16, "gamma": 0.8192, "ema_kimg": 5, "channel_base": 16384, "lr": 0.0025}),
        (1024, None, {"batch": 4, "gamma": 52.4288, "ema_kimg": 1.25, "channel_base": 32768, "lr": 0.002}),
        (64, None, {"batch": 32, "gamma": 0.0256, "mbstd_group": 4}),
        (256, 2, {"batch": 2, "mbstd_group": 2, "gamma": 6.5536}),
    ],
)
def test_auto_follows_the_resolution(resolution, batch, expected):
    preset = get_preset("auto", resolution, batch)
    for name, value in expected.items():
        assert preset[name] == pytest.approx(value), name


@pytest.mark.parametrize(
    ("resolution", "processes", "expected"),
    [
        # as stylegan2-ada-pytorch: gamma = 0.0002 * resolution^2 / batch, half-life of the average = batch * 10 / 32
        (256, 2, {"batch": 32, "gamma": 0.4096, "ema_kimg": 10, "mbstd_group": 4}),
        (256, 8, {"batch": 64, "gamma": 0.2048, "ema_kimg": 20, "mbstd_group": 4}),
        (512, 8, {"batch": 64, "gamma": 0.8192, "ema_kimg": 20, "mbstd_group": 4}),
        (1024, 8, {"batch": 32, "gamma": 6.5536, "ema_kimg": 10, "mbstd_group": 4}),
        (64, 32, {"batch": 64, "mbstd_group": 2}),
        (64, 128, {"batch": 128, "mbstd_group": 1}),
        # which asks for powers of two: others get batches that they divide, in whole groups
        (64, 3, {"batch": 60, "mbstd_group": 4}),
        (256, 6, {"batch": 48, "mbstd_group": 4}),
        (1024, 20, {"batch": 60, "mbstd_group": 3}),
    ],
)
def test_auto_follows_the_number_of_processes(resolution, processes, expected):
    preset = get_preset("auto", resolution, None, processes)
    for name, value in expected.items():
        assert preset[name] == pytest.approx(value), name


@pytest.mark.parametrize("processes", range(1, 40))
@pytest.mark.parametrize("resolution", [32, 256, 1024])
def test_the_batch_of_auto_can_be_shared_out(resolution, processes):
    chosen = TrainOptions("faces.zip").decide(resolution, processes, on_gpu=True)
    assert len(batch_parts(chosen, 0, processes)) == 1


def test_auto_with_a_batch_of_ones_own_keeps_it_and_its_groups_fit_a_share():
    assert get_preset("auto", 256, 32, 16)["batch"] == 32
    assert get_preset("auto", 256, 32, 16)["mbstd_group"] == 2


@pytest.mark.parametrize(
    ("cfg", "processes", "passes", "part"),
    [
        ("paper256", 1, 8, 8),
        ("paper512", 1, 8, 8),
        ("paper1024", 1, 8, 4),
        ("stylegan2", 1, 8, 4),
        ("cifar", 1, 2, 32),
        ("paper256", 2, 4, 8),
        ("paper1024", 4, 2, 4),
        ("stylegan2", 8, 1, 4),
        ("paper256", 16, 1, 8),
        ("cifarbaseline", 1, 2, 32),
        ("11gb-gpu", 1, 1, 4),
        ("24gb-gpu", 1, 1, 8),
        ("48gb-gpu", 1, 1, 16),
        ("48gb-2gpu", 1, 2, 16),
        ("48gb-2gpu", 2, 1, 16),
        ("24gb-2gpu-complex", 1, 2, 8),
        ("aydao", 2, 1, 8),
        ("auto", 1, 1, None),
        ("small", 1, 1, None),
        ("tiny", 1, 1, None),
    ],
)
def test_on_a_gpu_a_batch_is_taken_in_the_parts_that_a_preset_was_made_for(cfg, processes, passes, part):
    chosen = TrainOptions("faces.zip", cfg).decide(64, processes, on_gpu=True)
    assert chosen.batch_gpu == part
    parts = batch_parts(chosen, 0, processes)
    assert len(parts) == passes
    assert chosen.batch // parts[0].count % min(chosen.mbstd_group, chosen.batch // processes) == 0  # whole groups
    assert TrainOptions("faces.zip", cfg).decide(64, processes).batch_gpu is None  # on a CPU


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("11gb-gpu", {"batch": 4, "mbstd_group": 4, "gamma": 10, "ema_kimg": 10, "lr": 0.002, "map_layers": 8}),
        ("24gb-gpu-complex", {"batch": 8, "mbstd_group": 8, "channel_base": 32768}),
        ("48gb-2gpu", {"batch": 32, "mbstd_group": 16, "ema_rampup": None}),
        ("cifarbaseline", {"batch": 64, "mbstd_group": 32, "channel_base": 16384, "gamma": 0.01, "ema_kimg": 500}),
        ("cifarbaseline", {"map_layers": 8, "ema_rampup": 0.05, "pl_weight": 2, "d_architecture": "resnet"}),
        ("cifar", {"map_layers": 2, "pl_weight": 0, "style_mixing": 0, "d_architecture": "orig"}),
    ],
)
def test_presets_of_the_fork(name, expected):
    preset = get_preset(name, 256)
    assert {key: preset[key] for key in expected} == expected


@pytest.mark.parametrize("chosen", [{"batch_gpu": 16}, {"batch_gpu": 64}])
def test_a_part_of_ones_own_wins(chosen):
    assert TrainOptions("x", "paper256", **chosen).decide(256, on_gpu=True).batch_gpu == chosen["batch_gpu"]


@pytest.mark.parametrize("chosen", [{"batch": 32}, {"mbstd_group": 16}])
def test_another_batch_is_not_taken_in_a_presets_parts(chosen):
    assert TrainOptions("x", "paper256", **chosen).decide(256, on_gpu=True).batch_gpu is None


def test_a_run_of_before_keeps_its_whole_batches(tmp_path):
    before = TrainOptions("faces.zip", "paper256").decide(64)
    (tmp_path / OPTIONS).write_text(json.dumps(before.to_json()))
    assert read_options(tmp_path, TrainOptions).decide(64, 4, on_gpu=True) == before


def test_batch_overrides_a_fixed_preset():
    assert get_preset("paper256", 256)["batch"] == 64
    assert get_preset("paper256", 256, batch=8)["batch"] == 8


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_divides_its_batch_into_groups(name):
    preset = get_preset(name, 64)
    assert preset["batch"] % min(preset["mbstd_group"], preset["batch"]) == 0


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(FacegenError, match=r"papers.*stylegan2"):
        get_preset("papers", 64)


def test_the_docs_tell_the_defaults_that_differ_from_the_ancestors():
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    here = dict(re.findall(r"^\| `--(\w+)` \| [^|]+ \| ([^|]+) \| [^|]* \|$", text, re.MULTILINE))
    defaults = TrainOptions("faces.zip")
    assert here["cond"].split(":")[0] == ("on" if defaults.cond else "off")
    for name in ("kimg", "snap", "metrics"):
        assert re.split(r"[ ,]", here[name].replace("`", ""))[0] == str(getattr(defaults, name))
