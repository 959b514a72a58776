"""What a generator's training run is made of: every value decided, in one object that JSON can hold."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from facegen.errors import FacegenError
from facegen.metrics.names import parse_metrics
from facegen.training.augment.strengths import AUGPIPE_PRESETS
from facegen.training.generator.presets import PRESETS, get_preset

AUGMENTATIONS = ("ada", "fixed", "noaug")


@dataclass(frozen=True)
class TrainOptions:
    """All options of `train_generator`; `resolve_options` fills in what a preset decides. Names as in `Preset`.

    Attributes:
        data: Training archive.
        outdir: Where run folders are made.
        cfg: Name of the preset that the values below come from.
        kimg: Length of the training, in thousands of images shown to the discriminator.
        batch_gpu: Pictures at a time on each GPU, whose gradients add up; None for its whole share of a batch.
        cond: Condition on the archive's labels.
        mirror: Flip pictures at random.
        subset: Use only so many pictures; None for all.
        balance: How evenly age groups are drawn, see `batches.class_weights`.
        even: An attribute of faces, such as `gender`, whose values are drawn equally often within each age group;
            None for none. See `batches.picture_weights`.
        t_start_kimg, t_end_kimg: Train without labels up to the first, then let them fade in until the second, see
            `transition`; no `t_end_kimg` has labels from the start.
        aug: `ada` adapts the strength of augmentation, `fixed` keeps it at `p`, `noaug` has none.
        p: Strength for `fixed`, start for `ada`.
        augpipe: Which augmentations.
        target: What ADA holds the mean sign of D(real) at.
        ada_kimg: How fast ADA moves.
        resume: Weight file to start from; None starts from noise.
        freezed: Layers of D that keep their weights.
        tick: kimg between two lines of progress.
        snap: Ticks between two snapshots.
        snap_minutes: Take one after so many minutes, too; None does not mind the clock.
        keep: Keep so many of the newest snapshots, and the best; None keeps them all.
        metrics: Measured at every snapshot, names separated by commas, or `none`.
        inception, vgg, lpips: Weight files of the networks that judge; None downloads what the metrics need.
        seed: Of everything random.
        fp32: Compute in float32 alone: neither in float16 on a GPU nor in bfloat16 on a CPU that has it.
        compile: Compile the networks with torch.compile.
    """

    data: str
    outdir: str
    cfg: str
    kimg: float
    batch: int
    mbstd_group: int
    channel_base: int
    channel_max: int
    lr: float
    gamma: float
    ema_kimg: float
    ema_rampup: float | None
    map_layers: int
    latent: int
    num_fp16_res: int
    conv_clamp: float | None
    pl_weight: float
    style_mixing: float
    d_architecture: str
    batch_gpu: int | None = None
    cond: bool = True
    mirror: bool = False
    subset: int | None = None
    balance: float = 0
    even: str | None = None
    t_start_kimg: float = 0
    t_end_kimg: float | None = None
    aug: str = "ada"
    p: float = 0
    augpipe: str = "bgc"
    target: float = 0.6
    ada_kimg: float = 500
    resume: str | None = None
    freezed: int = 0
    tick: float = 4
    snap: int = 10
    snap_minutes: float | None = None
    keep: int | None = None
    metrics: str = "none"
    inception: str | None = None
    vgg: str | None = None
    lpips: str | None = None
    seed: int = 0
    fp32: bool = False
    compile: bool = False

    def run_name(self) -> str:
        """Return what the run folder is called, after its number."""
        parts = [Path(self.data).stem, "cond" if self.cond else "", "mirror" if self.mirror else "", self.cfg]
        parts += [f"batch{self.batch}", f"gamma{self.gamma:g}"]
        parts += [self.aug if self.aug != "fixed" else f"p{self.p:g}"]
        parts += ["" if self.t_end_kimg is None else f"t{self.t_start_kimg:g}to{self.t_end_kimg:g}"]
        parts += ["" if self.even is None else f"even-{self.even}"]
        parts += [self.augpipe if self.aug != "noaug" and self.augpipe != "bgc" else ""]
        parts += ["resumed" if self.resume else ""]
        return "-".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in training_options.json."""
        return asdict(self)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TrainOptions:
        """Read training_options.json.

        Raises:
            FileNotFoundError, FacegenError: it is not there or not of this version.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there, so {path.parent} is no run folder of `facegen train`")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, TypeError) as error:
            raise FacegenError(f"{path}: not the options of a training run of this version ({error})") from error


def resolve_options(
    *,
    data: str,
    outdir: str,
    resolution: int,
    cfg: str = "auto",
    kimg: float = 1000,
    batch: int | None = None,
    gamma: float | None = None,
    fp32: bool = False,
    **chosen: Any,
) -> TrainOptions:
    """Combine what a user chose with what the preset decides, and check it.

    Args:
        data, outdir, cfg, kimg, fp32: See `TrainOptions`.
        resolution: Of the archive.
        batch, gamma: None takes the preset's.
        chosen: Any other attribute of `TrainOptions`.

    Raises:
        FacegenError: an impossible value, named in one line.
    """
    preset = get_preset(cfg, resolution, batch)
    values = asdict(preset)
    if gamma is not None:
        values["gamma"] = gamma
    if fp32:
        values.update(num_fp16_res=0, conv_clamp=None)
    if chosen.get("resume"):
        # A trained network needs no run-up, and its augmentation should find its strength soon.
        values["ema_rampup"] = None
        chosen.setdefault("ada_kimg", 100)
    unknown = chosen.keys() - {field.name for field in fields(TrainOptions)}
    if unknown:
        raise FacegenError(f"unknown training options: {', '.join(sorted(unknown))}")
    options = TrainOptions(data=data, outdir=outdir, cfg=cfg, kimg=kimg, fp32=fp32, **{**values, **chosen})
    check(options)
    return options


def check(options: TrainOptions) -> None:
    """Raise a FacegenError that names the first impossible value."""
    group = max(1, min(options.mbstd_group, options.batch))
    parse_metrics(options.metrics)
    rules = [
        (options.cfg in PRESETS, f"cfg {options.cfg!r}: choose one of {', '.join(PRESETS)}"),
        (0 < options.kimg < math.inf, f"kimg must be above 0 and finite, got {options.kimg}"),
        (options.batch >= 1, f"batch must be at least 1, got {options.batch}"),
        (
            options.batch % group == 0,
            f"batch must be a multiple of {group} (minibatch-stddev group), got {options.batch}",
        ),
        (options.batch_gpu is None or options.batch_gpu >= 1, f"batch-gpu must be at least 1, got {options.batch_gpu}"),
        (0 <= options.gamma < math.inf, f"gamma must be finite and not negative, got {options.gamma}"),
        (
            options.tick > 0 and options.snap > 0,
            f"tick and snap must be above 0, got {options.tick} and {options.snap}",
        ),
        (
            options.snap_minutes is None or 0 < options.snap_minutes < math.inf,
            f"snap-minutes must be above 0 and finite, got {options.snap_minutes}",
        ),
        (options.keep is None or options.keep >= 1, f"keep must be at least 1, got {options.keep}"),
        (options.aug in AUGMENTATIONS, f"aug {options.aug!r}: choose one of {', '.join(AUGMENTATIONS)}"),
        (0 <= options.p <= 1, f"p must be between 0 and 1, got {options.p}"),
        (options.aug != "fixed" or options.p > 0, "aug fixed needs p, the strength, above 0 (as in --p 0.2)"),
        (
            options.augpipe in AUGPIPE_PRESETS,
            f"augpipe {options.augpipe!r}: choose one of {', '.join(AUGPIPE_PRESETS)}",
        ),
        (-1 <= options.target <= 1, f"target must be between -1 and 1, got {options.target}"),
        (options.freezed >= 0, f"freezed must not be negative, got {options.freezed}"),
        (0 <= options.balance <= 1, f"balance must be between 0 and 1, got {options.balance}"),
        (
            0 <= options.t_start_kimg < options.kimg,
            f"t-start-kimg must not be negative and below kimg ({options.kimg:g}), got {options.t_start_kimg}",
        ),
        (
            options.t_end_kimg is not None or options.t_start_kimg == 0,
            "t-start-kimg needs t-end-kimg: when do labels count in full?",
        ),
        (
            options.t_end_kimg is None or options.t_start_kimg < options.t_end_kimg < math.inf,
            f"t-end-kimg must be finite and above t-start-kimg ({options.t_start_kimg:g}), got {options.t_end_kimg}",
        ),
        (options.t_end_kimg is None or options.cond, "t-end-kimg is for labels: leave out it or --cond=0"),
        (options.subset is None or options.subset >= 1, f"subset must be at least 1, got {options.subset}"),
        (options.seed >= 0, f"seed must not be negative, got {options.seed}"),
    ]
    for holds, complaint in rules:
        if not holds:
            raise FacegenError(complaint)
